"""ONNX form of norms other than batch norm of maps. Opset 17 has no GroupNormalization: an instance norm does it."""

import numpy as np
import torch
from torch import Tensor, nn

from nas.errors import ExportError
from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.onnx_ops import emit


@emit.register
def _layer_norm(module: nn.LayerNorm, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    shape = tuple(module.normalized_shape)
    gain = torch.ones(shape) if module.weight is None else module.weight
    weights = [builder.add_parameter(f"{name}.weight", gain, dtype_like=inputs[0])]
    if module.bias is not None:
        weights.append(builder.add_parameter(f"{name}.bias", module.bias, dtype_like=inputs[0]))
    return builder.add_node(
        "LayerNormalization", [*inputs, *weights], name, axis=-len(shape), epsilon=float(module.eps)
    )


@emit.register
def _group_norm(module: nn.GroupNorm, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    """Each group as one channel of an instance norm, then gain and shift of each channel."""
    shape, groups = builder.shapes[inputs[0]], module.num_groups
    grouped = reshape(builder, f"{name}/group", inputs[0], (0, groups, -1))
    normed = _instance_normalise(builder, f"{name}/norm", grouped, groups, module.eps)
    value = reshape(builder, name if module.weight is None else f"{name}/ungroup", normed, (-1, *shape[1:]))
    return value if module.weight is None else _affine(builder, name, value, module.weight, module.bias, len(shape))


@emit.register
def _instance_norm(module: nn.InstanceNorm2d, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    if module.track_running_stats:
        raise ExportError(f"an instance norm must use the image's statistics, but {name!r} tracks them")
    if module.weight is not None and module.bias is not None:
        weights = [
            builder.add_parameter(f"{name}.{k}", getattr(module, k), dtype_like=inputs[0]) for k in ("weight", "bias")
        ]
        return builder.add_node("InstanceNormalization", [*inputs, *weights], name, epsilon=float(module.eps))
    return _instance_normalise(builder, name, inputs[0], builder.shapes[inputs[0]][1], module.eps)


def _instance_normalise(builder: GraphBuilder, name: str, value: str, width: int, eps: float) -> str:
    one = builder.add_constant(f"{name}.one", np.ones(width, np.float32), dtype_like=value)
    zero = builder.add_constant(f"{name}.zero", np.zeros(width, np.float32), dtype_like=value)
    return builder.add_node("InstanceNormalization", [value, one, zero], name, epsilon=float(eps))


def _affine(builder: GraphBuilder, name: str, value: str, gain: Tensor, shift: Tensor | None, rank: int) -> str:
    ones = [1] * (rank - 2)
    weight = builder.add_parameter(f"{name}.weight", gain.detach().reshape(-1, *ones), dtype_like=value)
    scaled = builder.add_node("Mul", [value, weight], name if shift is None else f"{name}/mul")
    if shift is None:
        return scaled
    bias = builder.add_parameter(f"{name}.bias", shift.detach().reshape(-1, *ones), dtype_like=value)
    return builder.add_node("Add", [scaled, bias], name)


def reshape(builder: GraphBuilder, name: str, value: str, shape: tuple[int, ...]) -> str:
    """A view in another shape; 0 keeps the size of an axis, -1 takes what is left."""
    return builder.add_node("Reshape", [value, builder.add_constant(f"{name}.shape", np.array(shape, np.int64))], name)


@emit.register
def _local_response_norm(module: nn.LocalResponseNorm, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    if module.size % 2 == 0:
        raise ExportError(f"a local response norm must have an odd size, but {name!r} has {module.size}")
    return builder.add_node("LRN", inputs, name, size=module.size, alpha=module.alpha, beta=module.beta, bias=module.k)
