"""TODO-INIT nas/latency/measured"""
