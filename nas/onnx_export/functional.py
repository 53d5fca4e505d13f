"""Modules for functions and methods: each call of a traced net in the form that later passes over the graph expect."""

import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from nas.errors import ExportError
from search_spaces._leaf import Add, Concat, Leaf, PerChannel, Scale, per_channel


class Affine(Leaf):
    """x * scale + shift: arithmetic with constants, as found in pre-processing; the scale may be one per channel."""

    def __init__(self, scale: PerChannel, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, H, W]."""
        return x * per_channel(self.scale, x) + self.shift


class Subtract(Leaf):
    """x - value, kept apart from `Affine` so that the pixel value 127.5 is subtracted without rounding."""

    def __init__(self, value: PerChannel) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, H, W]."""
        return x - per_channel(self.value, x)


def module_for_call(node: fx.Node) -> tuple[nn.Module, Iterable[fx.Node]]:
    """The module that computes a `call_function` or `call_method` node, and its inputs.

    Raises:
        ExportError: no module is known for the function with these arguments.
    """
    factory = _MODULE_FACTORIES.get(node.target)
    try:
        call = factory(*node.args, **node.kwargs) if factory else None
    except TypeError:  # an argument that the factory does not have
        call = None
    if call is None:
        called = getattr(node.target, "__name__", node.target)
        raise ExportError(f"a net must use modules, but {node.name!r} calls {called}; wrap it in a leaf module")
    return call


ModuleCall = tuple[nn.Module, Iterable[Any]] | None


def _add(a: Any, b: Any) -> ModuleCall:
    if isinstance(a, fx.Node) and isinstance(b, fx.Node):
        return Add(), (a, b)
    return (Affine(1.0, float(b)), (a,)) if isinstance(a, fx.Node) else (Affine(1.0, float(a)), (b,))


def _mul(a: Any, b: Any) -> ModuleCall:
    if isinstance(a, fx.Node) and isinstance(b, fx.Node):
        return Scale(), (a, b)
    return (Affine(float(b), 0.0), (a,)) if isinstance(a, fx.Node) else (Affine(float(a), 0.0), (b,))


def _sub(a: Any, b: Any) -> ModuleCall:
    return None if isinstance(b, fx.Node) else (Subtract(float(b)), (a,))


def _div(a: Any, b: Any) -> ModuleCall:
    return None if isinstance(b, fx.Node) else (Affine(1 / float(b), 0.0), (a,))


def _cat(tensors: Any, dim: int = 0) -> ModuleCall:
    return (Concat(), tensors) if dim == 1 else None


def _activation(module: Callable[[], nn.Module]) -> Callable[..., ModuleCall]:
    """Factory for a function of one map without settings that change the result."""

    def make(x: Any, inplace: bool = False) -> ModuleCall:
        return module(), (x,)

    return make


def _dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> ModuleCall:
    return nn.Dropout(p), (x,)


def _max_pool(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> ModuleCall:  # fmt: skip
    pool = nn.MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    return None if return_indices else (pool, (x,))


def _avg_pool(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> ModuleCall:  # fmt: skip
    return nn.AvgPool2d(kernel_size, stride, padding, ceil_mode, count_include_pad), (x,)


def _softmax(x: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> ModuleCall:
    """The axis stays as it is written: which axis -1 is depends on the rank."""
    return (nn.Softmax(dim=dim), (x,)) if isinstance(dim, int) and dtype is None else None


def _log_softmax(x: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> ModuleCall:
    return (nn.LogSoftmax(dim=dim), (x,)) if isinstance(dim, int) and dtype is None else None


def _view(x: Any, *shape: Any) -> ModuleCall:
    """[N, C, H, W] viewed as [N, C * H * W]: the first size is the batch's, or the second is given."""
    batch, rest = shape if len(shape) == 2 else (None, None)
    is_flat = (isinstance(batch, fx.Node) and rest == -1) or (batch == -1 and isinstance(rest, int))
    return (nn.Flatten(), (x,)) if is_flat else None


def _squeeze(x: Any, dim: int | None = None) -> ModuleCall:
    """A pooled map [N, C, 1, 1] flattened; a flat input stays flat."""
    return (nn.Flatten(), (x,)) if dim in (None, 2, 3, -1, -2) else None


def _flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> ModuleCall:
    return (nn.Flatten(), (x,)) if (start_dim, end_dim) == (1, -1) else None


def _mean(x: Any, dim: Any = None, keepdim: bool = False) -> ModuleCall:
    if dim is None or sorted(d % 4 for d in dim) != [2, 3]:
        return None
    pool = nn.AdaptiveAvgPool2d(1)
    return (pool if keepdim else nn.Sequential(pool, nn.Flatten())), (x,)


def _global_avg_pool(x: Any, output_size: Any) -> ModuleCall:
    return (nn.AdaptiveAvgPool2d(1), (x,)) if output_size in (1, (1, 1), [1, 1]) else None


def _interpolate(x: Any, size: Any = None, mode: str = "nearest", **options: Any) -> ModuleCall:
    if size is None or mode != "bilinear" or any(options.values()):
        return None
    return nn.Upsample(size=size, mode="bilinear", align_corners=False), (x,)


_MODULE_FACTORIES: dict[Any, Callable[..., ModuleCall]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add"), _add),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul"), _mul),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub"), _sub),
    **dict.fromkeys((operator.truediv, torch.div, "div"), _div),
    **dict.fromkeys((torch.cat, torch.concat), _cat),
    **dict.fromkeys((F.relu, torch.relu, "relu"), _activation(nn.ReLU)),
    **dict.fromkeys((torch.sigmoid, "sigmoid"), _activation(nn.Sigmoid)),
    **dict.fromkeys((torch.softmax, F.softmax, "softmax"), _softmax),
    **dict.fromkeys((torch.log_softmax, F.log_softmax, "log_softmax"), _log_softmax),
    F.relu6: _activation(nn.ReLU6),
    F.silu: _activation(nn.SiLU),
    F.gelu: _activation(nn.GELU),
    F.hardswish: _activation(nn.Hardswish),
    F.hardsigmoid: _activation(nn.Hardsigmoid),
    F.dropout: _dropout,
    F.max_pool2d: _max_pool,
    F.avg_pool2d: _avg_pool,
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys(("view", "reshape"), _view),
    **dict.fromkeys((torch.squeeze, "squeeze"), _squeeze),
    F.adaptive_avg_pool2d: _global_avg_pool,
    F.interpolate: _interpolate,
}
