"""Surrogates, acquisition function and candidate generation of the screened sampler."""
