"""TODO-INIT nas/onnx_export"""
