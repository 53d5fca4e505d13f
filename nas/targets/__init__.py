"""Targets: the devices that can be named, checked and calibrated."""
