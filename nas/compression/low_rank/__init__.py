"""Low-rank factorisation and its cost check."""
