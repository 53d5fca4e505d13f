"""TODO-INIT nas/runtimes/tensorrt"""
