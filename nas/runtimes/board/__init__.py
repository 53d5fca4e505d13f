"""Boards over ssh: state, power and timing."""
