"""Surrogates and acquisition of the default sampler."""
