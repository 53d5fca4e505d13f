"""Compression: pruning, quantisation and low-rank factors."""
