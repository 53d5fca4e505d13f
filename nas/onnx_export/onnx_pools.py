"""ONNX form of pools; the sizes of the map are known when the file is written.

Rounding up (`ceil_mode`) is written as padding at the end, because runtimes disagree on ONNX's own attribute.
"""

from collections.abc import Sequence
from math import ceil, floor
from typing import Any

from torch import nn

from nas.errors import ExportError
from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.onnx_ops import emit, pair
from nas.onnx_export.onnx_shapes import integers


@emit.register
def _max_pool(module: nn.MaxPool2d, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    if module.return_indices:
        raise ExportError(f"a max pool must return values only, but {name!r} returns indices too")
    dilations = list(pair(module.dilation))
    pads = _pads(module, builder.shapes[inputs[0]][2:], pair(module.dilation))
    return builder.add_node("MaxPool", inputs, name, dilations=dilations, **_window(module), pads=pads)


@emit.register
def _avg_pool(module: nn.AvgPool2d, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    if module.divisor_override is not None:
        raise ExportError(f"an average pool must divide by its window, but {name!r} has a divisor_override")
    include, value = int(module.count_include_pad), inputs[0]
    pads = _pads(module, builder.shapes[value][2:], (1, 1))
    if module.ceil_mode and include:
        # torch counts its own padding, but never what rounding up adds: the former is written as zeros.
        top, left = pair(module.padding)
        if top or left:
            value = emit(nn.ZeroPad2d((left, left, top, top)), builder, f"{name}/pad", inputs)
        pads, include = [0, 0, pads[2] - top, pads[3] - left], 0
        if min(pads) < 0:
            raise ExportError(f"a pool that rounds up must not begin in its padding, but {name!r} does")
    return builder.add_node("AveragePool", [value], name, count_include_pad=include, **_window(module), pads=pads)


def _window(module: nn.MaxPool2d | nn.AvgPool2d) -> dict[str, list[int]]:
    stride = module.stride if module.stride is not None else module.kernel_size
    return {"kernel_shape": list(pair(module.kernel_size)), "strides": list(pair(stride))}


def _pads(module: nn.MaxPool2d | nn.AvgPool2d, size: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Padding at the starts, then at the ends; rounding up adds to the ends what the last window lacks."""
    starts = list(pair(module.padding))
    if not module.ceil_mode:
        return starts * 2
    ends = []
    for have, pad, kernel, stride, step in zip(size, starts, *_window(module).values(), dilation, strict=True):
        extent = step * (kernel - 1) + 1
        count = ceil((have + 2 * pad - extent) / stride) + 1
        if (count - 1) * stride >= have + pad:  # the last window would begin in the padding at the end
            count -= 1
        ends.append(max(0, (count - 1) * stride + extent - have - pad))
    return starts + ends


@emit.register
def _adaptive_avg_pool(module: nn.AdaptiveAvgPool2d, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return adaptive_pool(builder, name, inputs[0], module.output_size, is_max=False)


@emit.register
def _adaptive_max_pool(module: nn.AdaptiveMaxPool2d, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return adaptive_pool(builder, name, inputs[0], module.output_size, is_max=True)


def adaptive_pool(builder: GraphBuilder, name: str, value: str, output_size: Any, *, is_max: bool) -> str:
    """Adaptive pool [N, C, H, W] to [N, C, *output_size].

    One global or windowed pool where all windows have one size and distance; else one reduction for each window.
    """
    size = builder.shapes[value][2:]
    wanted = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    target = [have if want is None else want for have, want in zip(size, wanted, strict=True)]
    if target == [1, 1]:
        return builder.add_node("GlobalMaxPool" if is_max else "GlobalAveragePool", [value], name)
    if all(have % want == 0 for have, want in zip(size, target, strict=True)):
        kernel = [have // want for have, want in zip(size, target, strict=True)]
        op_type = "MaxPool" if is_max else "AveragePool"
        return builder.add_node(op_type, [value], name, kernel_shape=kernel, strides=kernel, pads=[0] * 4)
    # Means of means over rectangles are exact, because each window is rectangular: first along H, then along W.
    rows = _reduce_windows(builder, f"{name}/rows", value, 2, _windows(size[0], target[0]), is_max)
    return _reduce_windows(builder, name, rows, 3, _windows(size[1], target[1]), is_max)


def _windows(size: int, count: int) -> list[tuple[int, int]]:
    """Start and end of each window, as torch chooses them."""
    return [(floor(i * size / count), ceil((i + 1) * size / count)) for i in range(count)]


def _reduce_windows(
    builder: GraphBuilder, name: str, value: str, axis: int, windows: Sequence[tuple[int, int]], is_max: bool
) -> str:
    parts = []
    for i, (start, end) in enumerate(windows):
        bounds = (("starts", start), ("ends", end), ("axes", axis))
        window = builder.add_node(
            "Slice", [value, *(integers(builder, f"{name}/{i}.{key}", [v]) for key, v in bounds)], f"{name}/{i}/slice"
        )
        op_type = "ReduceMax" if is_max else "ReduceMean"
        parts.append(builder.add_node(op_type, [window], f"{name}/{i}", axes=[axis], keepdims=1))
    return builder.add_node("Concat", parts, name, axis=axis)
