"""Samplers: who proposes the next candidate. One file each, ending with `make`."""
