"""Blocks of published networks."""
