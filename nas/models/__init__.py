"""TODO-INIT nas/models"""
