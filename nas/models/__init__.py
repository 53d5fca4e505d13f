"""Models: published networks and user-defined ones as search spaces."""
