"""Latency, measured or predicted, and the costs of a file."""
