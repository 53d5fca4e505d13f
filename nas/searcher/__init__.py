"""TODO-INIT nas/searcher"""
