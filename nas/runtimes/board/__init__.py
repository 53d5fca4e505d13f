"""TODO-INIT nas/runtimes/board"""
