"""TODO-INIT nas/distillation"""
