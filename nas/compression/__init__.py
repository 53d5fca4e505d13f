"""TODO-INIT nas/compression"""
