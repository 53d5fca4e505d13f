"""Distillation: teachers, their outputs and the losses that use them."""
