"""Runtimes: how a file runs on this machine or a board."""
