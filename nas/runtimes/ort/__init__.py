"""ONNX Runtime sessions, GPU providers and profiles."""
