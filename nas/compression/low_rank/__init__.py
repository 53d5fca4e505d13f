"""TODO-INIT nas/compression/low_rank"""
