"""TODO-INIT nas/latency/predicted"""
