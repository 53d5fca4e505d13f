"""Registry of all ONNX forms: importing this module registers every one of them with `emit`."""

from nas.onnx_export import onnx_activations, onnx_norms, onnx_pools, onnx_region, onnx_shapes
from nas.onnx_export.onnx_ops import emit

__all__ = ["emit", "onnx_activations", "onnx_norms", "onnx_pools", "onnx_region", "onnx_shapes"]
