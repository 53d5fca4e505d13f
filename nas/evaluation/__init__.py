"""TODO-INIT nas/evaluation"""
