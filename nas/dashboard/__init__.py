"""Dashboard of a run: a read-only view of its records and trials for optuna-dashboard, its files, and the server."""
