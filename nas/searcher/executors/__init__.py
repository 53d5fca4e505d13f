"""Executors, one module each, ending with `EXECUTOR`."""
