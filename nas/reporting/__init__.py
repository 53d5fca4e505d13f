"""TODO-INIT nas/reporting"""
