"""TODO-INIT nas/training"""
