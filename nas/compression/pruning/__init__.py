"""TODO-INIT nas/compression/pruning"""
