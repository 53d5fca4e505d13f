"""Data sets: reading, caching and checking."""
