"""Samplers, one module each, ending with `make`."""
