"""TODO-INIT nas/targets"""
