"""TODO-INIT nas/runtimes/backends"""
