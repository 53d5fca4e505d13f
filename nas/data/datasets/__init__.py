"""TODO-INIT nas/data/datasets"""
