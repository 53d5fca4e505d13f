"""Pruning: channel groups, masks, schedules and slices."""
