"""Results of a run: records, run folder, front and selection."""
