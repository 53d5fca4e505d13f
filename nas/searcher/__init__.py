"""Search loop: Optuna asks, the pipeline answers, records remember."""
