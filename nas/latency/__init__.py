"""Latency of devices that are not at hand: predicted, and always said to be."""
