"""Measured latency: timing loop, worker process and host load."""
