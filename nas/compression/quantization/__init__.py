"""Quantisation: ranges, calibration and trained grids."""
