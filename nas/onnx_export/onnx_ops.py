"""ONNX form of each leaf module: one function per module type, dispatched on the type.

A new operation needs one function here with `@emit.register`, or none if it is made of supported modules, because the
tracer looks inside. Here are the layers that every search space uses; `nas.onnx_export.all_ops` has the rest.
"""

from functools import singledispatch
from math import floor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nas.errors import ExportError
from nas.onnx_export.functional import Affine, Subtract
from nas.onnx_export.graph_builder import GraphBuilder
from search_spaces._leaf import Add, Concat, PerChannel, Scale, SwapAxes


@singledispatch
def emit(module: nn.Module, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    """Write one module's nodes; returns the name of its output value.

    Args:
        module: its type selects the function.
        builder: receives nodes and initialisers; knows the shape of each input.
        name: the module's qualified name, which the output must carry if a node is written.
        inputs: names of the input values.

    Raises:
        ExportError: no function is registered for this type, or ONNX or a runtime cannot represent its settings.
    """
    raise ExportError(f"every layer must have an ONNX form, but {name!r} is a {type(module).__name__}; register one")


@emit.register
def _sequential(module: nn.Sequential, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    for i, child in enumerate(module):
        last = i == len(module) - 1
        inputs = [emit(child, builder, name if last else f"{name}.{i}", inputs)]
    return inputs[0]


@emit.register(nn.Identity)
@emit.register(nn.Dropout)
@emit.register(nn.Dropout1d)
@emit.register(nn.Dropout2d)
@emit.register(nn.Dropout3d)
@emit.register(nn.AlphaDropout)
@emit.register(nn.FeatureAlphaDropout)
def _identity(module: nn.Module, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return inputs[0]


@emit.register
def _conv2d(module: nn.Conv2d, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return emit_weighted(module, builder, name, [*inputs, *_add_weights(module, builder, name, inputs)])


def emit_weighted(layer: nn.Conv2d | nn.Linear, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    """Write the Conv or Gemm of a layer whose weights are values of the graph already; returns the name of its output.

    Args:
        layer: for its geometry; its weights are not read.
        builder: receives the node.
        name: of the node and of its output.
        inputs: names of the input, the weight and, if there is one, the bias.

    Raises:
        ExportError: the layer pads with other values than zeros.
    """
    if isinstance(layer, nn.Linear):
        return builder.add_node("Gemm", inputs, name, transB=1)
    return builder.add_node("Conv", inputs, name, **conv_attributes(layer, name))


def _add_weights(
    layer: nn.Conv1d | nn.Conv2d | nn.Linear, builder: GraphBuilder, name: str, inputs: list[str]
) -> list[str]:
    """Add a layer's weight and bias as initialisers of the input's type; returns their names."""
    weights = [builder.add_parameter(f"{name}.weight", layer.weight, dtype_like=inputs[0])]
    if layer.bias is not None:
        weights.append(builder.add_parameter(f"{name}.bias", layer.bias, dtype_like=inputs[0]))
    return weights


def conv_attributes(module: nn.Conv2d, name: str) -> dict[str, Any]:
    """ONNX attributes of a convolution.

    Raises:
        ExportError: the layer pads with other values than zeros.
    """
    if module.padding_mode != "zeros":
        raise ExportError(f"a convolution must pad with zeros, but {name!r} pads with {module.padding_mode!r}")
    return {
        "kernel_shape": list(module.kernel_size),
        "strides": list(module.stride),
        "dilations": list(module.dilation),
        "group": module.groups,
        "pads": _conv_pads(module),
    }


def _conv_pads(module: nn.Conv2d) -> list[int]:
    if module.padding == "valid":
        return [0, 0, 0, 0]
    if module.padding == "same":
        # torch puts the odd pixel at the end.
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [t // 2 for t in totals] + [t - t // 2 for t in totals]
    return [int(p) for p in module.padding] * 2


@emit.register
def _conv1d(module: nn.Conv1d, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise ExportError(f"a 1-d convolution must pad with a fixed number of zeros, but {name!r} does not")
    return builder.add_node(
        "Conv",
        [*inputs, *_add_weights(module, builder, name, inputs)],
        name,
        kernel_shape=list(module.kernel_size),
        strides=list(module.stride),
        dilations=list(module.dilation),
        group=module.groups,
        pads=[module.padding[0]] * 2,
    )


@emit.register
def _linear(module: nn.Linear, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    if len(builder.shapes.get(inputs[0], ())) > 2:  # Gemm takes matrices only
        weight = builder.add_parameter(f"{name}.weight", module.weight.T, dtype_like=inputs[0])
        if module.bias is None:
            return builder.add_node("MatMul", [*inputs, weight], name)
        product = builder.add_node("MatMul", [*inputs, weight], f"{name}/product")
        return builder.add_node(
            "Add", [product, builder.add_parameter(f"{name}.bias", module.bias, dtype_like=inputs[0])], name
        )
    return emit_weighted(module, builder, name, [*inputs, *_add_weights(module, builder, name, inputs)])


@emit.register(nn.BatchNorm1d)
@emit.register(nn.BatchNorm2d)
def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    mean, var = module.running_mean, module.running_var
    if mean is None or var is None:
        raise ExportError(f"batch norm must keep running statistics, but {name!r} does not")
    gain = torch.ones_like(mean) if module.weight is None else module.weight
    shift = torch.zeros_like(mean) if module.bias is None else module.bias
    tensors = {"weight": gain, "bias": shift, "running_mean": mean, "running_var": var}
    weights = [builder.add_parameter(f"{name}.{k}", tensor, dtype_like=inputs[0]) for k, tensor in tensors.items()]
    return builder.add_node("BatchNormalization", [*inputs, *weights], name, epsilon=module.eps)


@emit.register
def _relu(module: nn.ReLU, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("Relu", inputs, name)


@emit.register
def _relu6(module: nn.ReLU6, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    bounds = [builder.add_constant(f"{name}.{k}", np.array(v, np.float32), dtype_like=inputs[0]) for k, v in _RELU6]
    return builder.add_node("Clip", [*inputs, *bounds], name)


_RELU6 = (("low", 0.0), ("high", 6.0))


@emit.register
def _hardswish(module: nn.Hardswish, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("HardSwish", inputs, name)


@emit.register
def _hardsigmoid(module: nn.Hardsigmoid, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("HardSigmoid", inputs, name, alpha=1 / 6, beta=0.5)


@emit.register
def _sigmoid(module: nn.Sigmoid, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("Sigmoid", inputs, name)


@emit.register
def _silu(module: nn.SiLU, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    gate = builder.add_node("Sigmoid", inputs, f"{name}/sigmoid")
    return builder.add_node("Mul", [*inputs, gate], name)


@emit.register
def _softmax(module: nn.Softmax, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    shape = builder.shapes[inputs[0]]
    return add_softmax(builder, inputs[0], name, axis=_softmax_axis(module.dim, len(shape), name), shape=shape)


def add_softmax(builder: GraphBuilder, value: str, name: str, *, axis: int, shape: tuple[int, ...]) -> str:
    """A softmax of a value of this shape; over an axis of one element it is written as a power of 0, which is 1 too.

    ONNX Runtime 1.31's integer kernel gives 0 for one element.
    """
    if shape[axis] != 1:
        return builder.add_node("Softmax", [value], name, axis=axis)
    zero = builder.add_constant(f"{name}.exponent", np.array(0, np.float32), dtype_like=value)
    return builder.add_node("Pow", [value, zero], name)


@emit.register
def _log_softmax(module: nn.LogSoftmax, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    axis = _softmax_axis(module.dim, len(builder.shapes[inputs[0]]), name)
    return builder.add_node("LogSoftmax", inputs, name, axis=axis)


def _softmax_axis(dim: int | None, rank: int, name: str) -> int:
    """The axis from the front; without one torch takes axis 0 of tensors of rank 0, 1 and 3, else axis 1."""
    axis = (0 if rank in (0, 1, 3) else 1) if dim is None else dim % rank
    if axis == 0:
        raise ExportError(f"a softmax must keep the images apart, but {name!r} sums over the batch; give it a dim")
    return axis


def pair(value: Any) -> tuple[int, int]:
    """A setting for height and width, which may be given as one number."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


@emit.register
def _flatten(module: nn.Flatten, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise ExportError(f"a flatten must keep the batch axis only, but {name!r} starts at axis {module.start_dim}")
    return builder.add_node("Flatten", inputs, name, axis=1)


@emit.register
def _upsample(module: nn.Upsample, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    if module.mode == "nearest":
        return _nearest_resize(module, builder, name, inputs)
    if module.mode != "bilinear" or module.align_corners or module.size is None:
        raise ExportError(f"a resize must be nearest or bilinear to a size, corners not aligned, but {name!r} is not")
    return resize(builder, name, inputs, size=pair(module.size))


def _nearest_resize(module: nn.Upsample, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    """Each pixel repeated: torch takes the pixel at floor(i / scale), which is `asymmetric` with `floor`."""
    size = builder.shapes[inputs[0]][2:]
    target = (
        pair(module.size)
        if module.size is not None
        else [int(n * s) for n, s in zip(size, _factors(module), strict=True)]
    )
    scales = [exact_resize_scale(a, b) for a, b in zip(size, target, strict=True)]
    constant = builder.add_constant(f"{name}.scales", np.array([1, 1, *scales], np.float32))
    return builder.add_node(
        "Resize", [inputs[0], "", constant], name, mode="nearest", coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )  # fmt: skip


def _factors(module: nn.Upsample) -> tuple[float, float]:
    factor: Any = module.scale_factor
    return (factor, factor) if isinstance(factor, (int, float)) else (factor[0], factor[1])


def resize(builder: GraphBuilder, name: str, inputs: list[str], *, size: tuple[int, int]) -> str:
    """Bilinear resize [N, C, H, W] to [N, C, *size] as in torch: half-pixel centres, no antialiasing."""
    sizes = zip(builder.shapes[inputs[0]][2:], size, strict=True)
    scales = [exact_resize_scale(input_size, output_size) for input_size, output_size in sizes]
    constant = builder.add_constant(f"{name}.scales", np.array([1, 1, *scales], np.float32))
    return builder.add_node(
        "Resize",
        [inputs[0], "", constant],
        name,
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )


def exact_resize_scale(input_size: int, output_size: int) -> np.float32:
    """The float32 nearest to output / input for which floor(input * scale), ONNX's output size, is exact.

    It is exact in float32, as ONNX Runtime's kernels multiply, and in float64, as ONNX's shape inference and reference
    evaluator do: 40 / 48 rounds down in float32, so 48 times it is 40 in the one and 39.999999 in the other.
    """
    scale = np.float32(output_size / input_size)
    while floor(float(scale) * input_size) < output_size or floor(np.float32(input_size) * scale) < output_size:
        scale = np.nextafter(scale, np.float32(np.inf), dtype=np.float32)
    return scale


@emit.register
def _affine(module: Affine, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    value = inputs[0]
    if module.scale != 1:
        factor = builder.add_constant(f"{name}.scale", _broadcast(module.scale), dtype_like=value)
        value = builder.add_node("Mul", [value, factor], name if module.shift == 0 else f"{name}/mul")
    if module.shift != 0:
        shift = builder.add_constant(f"{name}.shift", np.array(module.shift, np.float32), dtype_like=value)
        value = builder.add_node("Add", [value, shift], name)
    return value


@emit.register
def _subtract(module: Subtract, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    value = builder.add_constant(f"{name}.value", _broadcast(module.value), dtype_like=inputs[0])
    return builder.add_node("Sub", [inputs[0], value], name)


def _broadcast(value: PerChannel) -> npt.NDArray[np.float32]:
    """A scalar, or numbers per channel [C, 1, 1]."""
    return np.array(value, np.float32).reshape((-1, 1, 1) if isinstance(value, tuple) else ())


@emit.register
def _add(module: Add, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("Add", inputs, name)


@emit.register
def _concat(module: Concat, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("Concat", inputs, name, axis=1)


@emit.register
def _scale(module: Scale, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("Mul", inputs, name)


@emit.register
def _swap_axes(module: SwapAxes, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("Transpose", inputs, name, perm=[0, 2, 1, 3])
