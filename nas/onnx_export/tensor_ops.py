"""Leaf modules for tensor operations that change shapes, mix two tensors or reduce axes; sizes but the batch are fixed.

`nas.onnx_export.call_modules` makes them from the functions and methods that a net calls, and
`nas.onnx_export.onnx_shapes` writes them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from search_spaces._leaf import Leaf

BINARY_OPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Sub": torch.sub,
    "Div": torch.div,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "MatMul": torch.matmul,
}
UNARY_OPS: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Exp": torch.exp,
    "Log": torch.log,
    "Neg": torch.neg,
    "Sqrt": torch.sqrt,
}
REDUCE_OPS: dict[str, Callable[..., Tensor]] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceL2": torch.linalg.vector_norm,
}


class Binary(Leaf):
    """Operation of two tensors that broadcast; `op_type` is the ONNX operator."""

    def __init__(self, op_type: str) -> None:
        super().__init__()
        self.op_type = op_type

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The broadcast shape."""
        return BINARY_OPS[self.op_type](a, b)


class Unary(Leaf):
    """Operation of each number; `op_type` is the ONNX operator."""

    def __init__(self, op_type: str) -> None:
        super().__init__()
        self.op_type = op_type

    def forward(self, x: Tensor) -> Tensor:
        """Shape of x."""
        return UNARY_OPS[self.op_type](x)


class Reduce(Leaf):
    """Mean, sum or extreme over axes; `op_type` is the ONNX operator, the axes count from the front."""

    def __init__(self, op_type: str, axes: tuple[int, ...], *, keepdim: bool) -> None:
        super().__init__()
        self.op_type, self.axes, self.keepdim = op_type, axes, keepdim

    def forward(self, x: Tensor) -> Tensor:
        """Shape of x without the axes, or with 1 in their place."""
        return REDUCE_OPS[self.op_type](x, dim=self.axes, keepdim=self.keepdim)


class Reshape(Leaf):
    """View in another shape [-1, ...] with one free axis, which holds the batch."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """`shape`."""
        return x.reshape(self.shape)


class AppendAxes(Leaf):
    """[N, C] as a map [N, C, 1, ...] with `count` axes of size 1 at the end."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        """Shape of x and `count` times 1."""
        return x[(..., *[None] * self.count)]


class Permute(Leaf):
    """Axes in another order."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """Axis i is axis `axes[i]` of x."""
        return x.permute(self.axes)


class Slice(Leaf):
    """A range of each of some axes: {axis: (start, end, step)}, all counted from the front."""

    def __init__(self, ranges: dict[int, tuple[int, int, int]]) -> None:
        super().__init__()
        self.ranges = ranges

    def forward(self, x: Tensor) -> Tensor:
        """Shape of x with shorter axes."""
        index = [slice(*self.ranges[axis]) if axis in self.ranges else slice(None) for axis in range(x.ndim)]
        return x[tuple(index)]


class ChannelChunk(Leaf):
    """One of `parts` equal parts of the channels [N, C, ...]; it stays one where channels are pruned."""

    def __init__(self, parts: int, index: int) -> None:
        super().__init__()
        self.parts, self.index = parts, index

    def forward(self, x: Tensor) -> Tensor:
        """Shape [N, C / parts, ...]."""
        return x.chunk(self.parts, dim=1)[self.index]


class Pad(Leaf):
    """Padding of the last axes, in torch's order (left, right, top, bottom, ...)."""

    def __init__(self, pads: tuple[int, ...], mode: str = "constant", value: float = 0.0) -> None:
        super().__init__()
        self.pads, self.mode, self.value = pads, mode, value

    def forward(self, x: Tensor) -> Tensor:
        """Shape of x with longer axes; negative pads cut."""
        return F.pad(x, self.pads, mode=self.mode, value=self.value if self.mode == "constant" else None)


class ConcatAxis(Leaf):
    """Concatenation along another axis than that of the channels."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *parts: Tensor) -> Tensor:
        """Shape of the parts, with the sum of their sizes on `axis`."""
        return torch.cat(parts, dim=self.axis)


class Mirror(Leaf):
    """Mirror image: the columns of maps [N, C, H, W] in reverse order."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape of x."""
        return x.flip(-1)


class Roll(Leaf):
    """Cyclic shifts: {axis: places}, all counted from the front, 0 <= places < size."""

    def __init__(self, moves: dict[int, int]) -> None:
        super().__init__()
        self.moves = moves

    def forward(self, x: Tensor) -> Tensor:
        """Shape of x."""
        return torch.roll(x, tuple(self.moves.values()), tuple(self.moves))


class DotProductAttention(Leaf):
    """softmax(q k^T * scale + mask) v (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

    Args:
        scale: of the scores; None for 1 / sqrt(d).
    """

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Queries [..., L, d], keys [..., S, d], values [..., S, e] and a float mask that broadcasts to [..., L, S]."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)


def sorted_axes(axes: Any, rank: int) -> tuple[int, ...]:
    """Axes from the front in ascending order; None means all."""
    if axes is None:
        return tuple(range(rank))
    return tuple(sorted(axis % rank for axis in ((axes,) if isinstance(axes, int) else axes)))
