"""TODO-INIT nas/searcher/acquisition"""
