"""TODO-INIT nas/compression/nni"""
