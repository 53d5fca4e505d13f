"""TODO-INIT nas/cli/render"""
