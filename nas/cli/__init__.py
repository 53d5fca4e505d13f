"""TODO-INIT nas/cli"""
