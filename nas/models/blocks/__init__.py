"""Blocks of published nets."""
