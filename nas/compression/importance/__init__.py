"""Criteria for which channels stay when a net is pruned: one file each."""
