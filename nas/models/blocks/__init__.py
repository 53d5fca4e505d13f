"""TODO-INIT nas/models/blocks"""
