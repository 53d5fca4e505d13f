"""ONNX form of the operations of `nas.onnx_export.tensor_ops`, of pads, shuffles and transposed convolutions."""

import numpy as np
from torch import nn

from nas.errors import ExportError
from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.onnx_norms import reshape
from nas.onnx_export.onnx_ops import add_softmax, emit
from nas.onnx_export.tensor_ops import (
    AppendAxes,
    Binary,
    ChannelChunk,
    ConcatAxis,
    DotProductAttention,
    Mirror,
    Pad,
    Permute,
    Reduce,
    Reshape,
    Roll,
    Slice,
    Unary,
)  # fmt: skip


def integers(builder: GraphBuilder, name: str, values: list[int]) -> str:
    """A constant of sizes or axes."""
    return builder.add_constant(name, np.array(values, np.int64))


@emit.register
def _binary(module: Binary, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node(module.op_type, inputs, name)


@emit.register
def _unary(module: Unary, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node(module.op_type, inputs, name)


@emit.register
def _reduce(module: Reduce, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    # Only ReduceSum takes its axes as an input in opset 17.
    keepdims = int(module.keepdim)
    if module.op_type == "ReduceSum":
        axes = integers(builder, f"{name}.axes", list(module.axes))
        return builder.add_node("ReduceSum", [*inputs, axes], name, keepdims=keepdims)
    return builder.add_node(module.op_type, inputs, name, axes=list(module.axes), keepdims=keepdims)


@emit.register
def _reshape(module: Reshape, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return reshape(builder, name, inputs[0], module.shape)


@emit.register
def _append_axes(module: AppendAxes, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    axes = integers(builder, f"{name}.axes", list(range(-module.count, 0)))
    return builder.add_node("Unsqueeze", [*inputs, axes], name)


@emit.register
def _permute(module: Permute, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("Transpose", inputs, name, perm=list(module.axes))


@emit.register
def _slice(module: Slice, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    starts, ends, steps = (list(values) for values in zip(*module.ranges.values(), strict=True))
    axes = [integers(builder, f"{name}.{key}", values) for key, values in
            (("starts", starts), ("ends", ends), ("axes", list(module.ranges)), ("steps", steps))]  # fmt: skip
    return builder.add_node("Slice", [*inputs, *axes], name)


@emit.register
def _channel_chunk(module: ChannelChunk, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    width = builder.shapes[inputs[0]][1] // module.parts
    bounds = (("starts", module.index * width), ("ends", (module.index + 1) * width), ("axes", 1))
    return builder.add_node("Slice", [*inputs, *(integers(builder, f"{name}.{k}", [v]) for k, v in bounds)], name)


@emit.register
def _concat_axis(module: ConcatAxis, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("Concat", inputs, name, axis=module.axis)


@emit.register
def _mirror(module: Mirror, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    # A slice with step -1 is shorter, but not every runtime reads it.
    columns = integers(builder, f"{name}.columns", list(range(builder.shapes[inputs[0]][-1]))[::-1])
    return builder.add_node("Gather", [*inputs, columns], name, axis=3)


@emit.register
def _roll(module: Roll, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    """The last places of each axis before all others."""
    value, shape = inputs[0], builder.shapes[inputs[0]]
    moves = [(axis, places) for axis, places in module.moves.items() if places]
    for i, (axis, places) in enumerate(moves):
        cut, prefix = shape[axis] - places, f"{name}/axis{axis}"
        parts = []
        for key, start, end in (("last", cut, shape[axis]), ("first", 0, cut)):
            bounds = (("starts", start), ("ends", end), ("axes", axis))
            constants = [integers(builder, f"{prefix}.{key}.{k}", [v]) for k, v in bounds]
            parts.append(builder.add_node("Slice", [value, *constants], f"{prefix}.{key}"))
        value = builder.add_node("Concat", parts, name if i == len(moves) - 1 else prefix, axis=axis)
    return value


@emit.register
def _dot_product_attention(module: DotProductAttention, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    query, key, value, *mask = inputs
    shape = builder.shapes[query]
    rank, scale = len(shape), module.scale if module.scale is not None else shape[-1] ** -0.5
    axes = [*range(rank - 2), rank - 1, rank - 2]
    factor = builder.add_constant(f"{name}.scale", np.array(scale, np.float32), dtype_like=query)
    scaled = builder.add_node("Mul", [query, factor], f"{name}/scaled")
    turned = builder.add_node("Transpose", [key], f"{name}/keys", perm=axes)
    scores = builder.add_node("MatMul", [scaled, turned], f"{name}/scores")
    if mask:
        scores = builder.add_node("Add", [scores, *mask], f"{name}/masked")
    n_keys = builder.shapes[key][-2]
    weights = add_softmax(builder, scores, f"{name}/weights", axis=rank - 1, shape=(*shape[:-1], n_keys))
    return builder.add_node("MatMul", [weights, value], name)


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


@emit.register
def _pad(module: Pad, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    if module.mode not in _PAD_MODES:
        raise ExportError(f"a pad must be constant, reflect or replicate in opset 17, but {name!r} is {module.mode!r}")
    rank, pairs = len(builder.shapes[inputs[0]]), list(zip(module.pads[::2], module.pads[1::2], strict=True))
    # torch begins with the last axis; ONNX takes all starts, then all ends.
    pairs = [(0, 0)] * (rank - len(pairs)) + pairs[::-1]
    pads = integers(builder, f"{name}.pads", [a for a, _ in pairs] + [b for _, b in pairs])
    if module.mode != "constant":
        return builder.add_node("Pad", [inputs[0], pads], name, mode=_PAD_MODES[module.mode])
    value = builder.add_constant(f"{name}.value", np.array(module.value, np.float32), dtype_like=inputs[0])
    return builder.add_node("Pad", [inputs[0], pads, value], name)


@emit.register
def _zero_pad(module: nn.ZeroPad2d, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return _pad(Pad(tuple(module.padding)), builder, name, inputs)


@emit.register
def _channel_shuffle(module: nn.ChannelShuffle, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    """[N, g, C / g, H, W] with axes 1 and 2 exchanged."""
    _, width, *size = builder.shapes[inputs[0]]
    split = reshape(builder, f"{name}/split", inputs[0], (-1, module.groups, width // module.groups, *size))
    swapped = builder.add_node("Transpose", [split], f"{name}/swap", perm=[0, 2, 1, 3, 4])
    return reshape(builder, name, swapped, (-1, width, *size))


@emit.register
def _conv_transpose(module: nn.ConvTranspose2d, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    weights = [builder.add_parameter(f"{name}.weight", module.weight, dtype_like=inputs[0])]
    if module.bias is not None:
        weights.append(builder.add_parameter(f"{name}.bias", module.bias, dtype_like=inputs[0]))
    return builder.add_node(
        "ConvTranspose", [*inputs, *weights], name, kernel_shape=list(module.kernel_size), strides=list(module.stride),
        dilations=list(module.dilation), group=module.groups, pads=[int(p) for p in module.padding] * 2,
        output_padding=list(module.output_padding),
    )  # fmt: skip
