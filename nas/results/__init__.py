"""TODO-INIT nas/results"""
