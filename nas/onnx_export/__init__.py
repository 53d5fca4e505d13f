"""ONNX export of a folded graph, and its parity with torch."""
