"""Evaluation of one candidate, from the untrained export to the final figures."""
