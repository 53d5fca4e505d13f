"""TODO-INIT nas/runtimes/ort"""
