"""Models: published nets, and user-defined nets as search spaces."""
