"""TODO-INIT nas/compression/quantization"""
