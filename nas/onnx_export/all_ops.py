"""Registry of all ONNX operators: importing this module registers the form of every layer with `emit`."""

from nas.onnx_export import onnx_activations, onnx_norms, onnx_opaque_region, onnx_pools, onnx_shapes
from nas.onnx_export.onnx_ops import emit

__all__ = ["emit", "onnx_activations", "onnx_norms", "onnx_opaque_region", "onnx_pools", "onnx_shapes"]
