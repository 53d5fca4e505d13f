"""Predicted latency: rooflines fitted to published or measured figures."""
