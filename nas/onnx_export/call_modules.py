"""Modules for the calls of a concretely traced net: its own layers, leaf modules, and regions for all the rest.

Each module is proved against its call on random tensors of the call's shapes at two batch sizes, so a form that ignores
a rank or an axis is not taken.
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from nas.errors import ExportError
from nas.onnx_export.functional import Affine, module_for_call
from nas.onnx_export.opaque_region import Call, Held, OutputShape, Region, Slot
from nas.onnx_export.tensor_ops import (
    AppendAxes,
    Binary,
    ChannelChunk,
    ConcatAxis,
    DotProductAttention,
    Pad,
    Permute,
    Reduce,
    Reshape,
    Roll,
    Slice,
    Unary,
    sorted_axes,
)  # fmt: skip
from search_spaces._leaf import Add, Concat, Scale


@dataclass(frozen=True)
class Site:
    """One call in a concretely traced net.

    Attributes:
        function: the function, or a method's name; of the call that made the tuple where `pick` is not None.
        args: with `Slot`, `Held` and `BatchSize` in place of what is filled in.
        kwargs: likewise.
        inputs: the nodes of the slots.
        held: weights and constants among the arguments, by name.
        shapes: of each input at both batch sizes.
        output_shape: for any batch.
        pick: which item of the result.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[fx.Node]
    held: dict[str, Tensor]
    shapes: tuple[list[tuple[int, ...]], list[tuple[int, ...]]]
    output_shape: OutputShape
    pick: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first input at the first batch size."""
        return self.shapes[0][0]

    def is_fixed(self, axis: int) -> bool:
        """Whether the size of an axis of the first input is the same for any batch."""
        first, second = (shapes[0][axis] for shapes in self.shapes)
        return first == second

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def region(self, inner: nn.Module) -> Region:
        """The call as an opaque region."""
        fixed = frozenset(i for i, (a, b) in enumerate(zip(*self.shapes, strict=True)) if a[:1] == b[:1])
        return Region(
            inner, output_shape=self.output_shape, args=self.args, kwargs=self.kwargs, pick=self.pick, held=self.held,
            fixed_inputs=fixed,
        )  # fmt: skip


def module_for_site(site: Site, node: fx.Node) -> tuple[nn.Module, list[fx.Node]]:
    """The first known module that computes what the call does, else a region; and its inputs."""
    region = site.region(Call(site.function))
    for module, inputs in _proposals(site, node):
        slots = [site.inputs.index(source) for source in inputs]
        mixes_ranks = isinstance(module, Add | Scale | Binary) and len({len(shape) for shape in site.shapes[0]}) > 1
        module = with_axis_from_front(module, len(site.shape))
        if not mixes_ranks and _computes_the_same(module, region, site, slots):
            last = module[-1] if isinstance(module, nn.Sequential) else module  # a tracer looks into sequences
            vars(last)["output_width"] = region.output_width  # read where channels cannot be followed
            return module, inputs
    return region, site.inputs


def _proposals(site: Site, node: fx.Node) -> Iterator[tuple[nn.Module, list[fx.Node]]]:
    if not site.inputs:
        return
    if site.pick is None and not site.held:
        try:
            module, inputs = module_for_call(node)
            inputs = list(inputs)
            if all(isinstance(source, fx.Node) for source in inputs):
                yield module, inputs
        except (ExportError, TypeError, ValueError, AttributeError, IndexError):
            pass  # another proposal or a region follows
    if site.pick is None and not site.held and (n_copies := _channel_copies(site)) > 1:
        yield Concat(), site.inputs * n_copies
    for propose in (_weighted, _shaped, _reduced, _paired):
        try:
            module_or_none = propose(site)
        except (TypeError, ValueError, AttributeError, IndexError, KeyError):
            continue
        if module_or_none is not None:
            yield module_or_none, site.inputs[:1] if site.function in _SHAPED_LIKE else site.inputs


def _channel_copies(site: Site) -> int:
    """Copies of all channels that `repeat`, or `expand` of one channel, puts side by side; 1 for other calls."""
    if site.function not in ("repeat", "expand", "repeat_interleave", "tile") or len(site.inputs) != 1:
        return 1
    before, after = site.shape, site.output_shape
    if len(before) < 2 or len(before) != len(after) or before[2:] != after[2:] or after[1] is None:
        return 1
    return after[1] // before[1]


def _computes_the_same(module: nn.Module, region: Region, site: Site, slots: list[int]) -> bool:
    generator = torch.Generator().manual_seed(0)
    module.eval()
    for shapes in site.shapes:
        tensors = [torch.randn(shape, generator=generator) for shape in shapes]
        try:
            with torch.no_grad():
                expected, got = region(*[t.clone() for t in tensors]), module(*[tensors[i].clone() for i in slots])
        except Exception:  # the proposal does not fit
            return False
        if expected.shape != got.shape or not torch.allclose(expected, got, rtol=1e-4, atol=1e-5, equal_nan=True):
            return False
    return True


def _weighted(site: Site) -> nn.Module | None:
    """A layer that shares the weights which a function takes."""

    def held(position: int, name: str) -> Any:
        value = site.argument(position, name)
        return site.held[value.name] if isinstance(value, Held) else None

    weight, bias = held(1, "weight"), held(2, "bias")
    if site.function in (F.conv2d, torch.conv2d) and isinstance(weight, nn.Parameter):
        stride, padding, dilation = (
            site.argument(i, k, d) for i, k, d in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))
        )
        groups = site.argument(6, "groups", 1)
        kernel = cast(tuple[int, int], tuple(weight.shape[2:]))
        conv = nn.Conv2d(
            weight.shape[1] * groups, len(weight), kernel, stride, padding, dilation, groups, bias=bias is not None
        )  # fmt: skip
        conv.weight, conv.bias = weight, bias
        return conv
    if site.function is F.linear and isinstance(weight, nn.Parameter):
        linear = nn.Linear(weight.shape[1], len(weight), bias=bias is not None)
        linear.weight, linear.bias = weight, bias
        return linear if len(site.shape) == 2 else Region(linear, output_shape=site.output_shape)
    if site.function is F.layer_norm:
        weight, bias = held(2, "weight"), held(3, "bias")
        shape, eps = tuple(site.argument(1, "normalized_shape")), site.argument(4, "eps", 1e-5)
        layer_norm = nn.LayerNorm(shape, eps, elementwise_affine=weight is not None, bias=bias is not None)
        layer_norm.weight, layer_norm.bias = weight, bias
        return Region(layer_norm, output_shape=site.output_shape)
    if site.function is F.group_norm:
        weight, bias = held(2, "weight"), held(3, "bias")
        group_norm = nn.GroupNorm(
            site.argument(1, "num_groups"), site.shape[1], site.argument(4, "eps", 1e-5), affine=weight is not None
        )
        group_norm.weight, group_norm.bias = weight, bias
        return group_norm if len(site.shape) == 4 else Region(group_norm, output_shape=site.output_shape)
    if site.function is F.batch_norm:
        mean, var, gain, shift = (
            held(i, k) for i, k in ((1, "running_mean"), (2, "running_var"), (3, "weight"), (4, "bias"))
        )
        kind = nn.BatchNorm2d if len(site.shape) == 4 else nn.BatchNorm1d
        norm = kind(len(mean), eps=site.argument(7, "eps", 1e-5), affine=gain is not None)
        norm.running_mean, norm.running_var = mean, var
        norm.weight, norm.bias = gain, shift
        return norm
    return None


def _shaped(site: Site) -> nn.Module | None:
    """Views, permutations, slices, pads."""
    rank, function = len(site.shape), site.function
    if function in ("contiguous", "clone", "float", "detach", "to", torch.clone) or function in _DROPOUTS:
        return nn.Identity()
    if getattr(function, "__name__", "") in _BRANCH_DROPOUTS:
        return nn.Identity()
    if function in (torch.chunk, "chunk", torch.split, "split", torch.tensor_split, torch.unbind, "unbind"):
        return _part(site)
    if function in (operator.getitem,):
        return _indexed(site)
    if function in (F.pad, torch.nn.functional.pad):
        mode = site.argument(2, "mode", "constant")
        return Pad(tuple(site.argument(1, "pad")), mode, float(site.argument(3, "value", 0.0) or 0.0))
    if function in (F.channel_shuffle, torch.channel_shuffle):
        return nn.ChannelShuffle(site.argument(1, "groups"))
    if function in ("permute", torch.permute):
        axes = site.args[1] if len(site.args) == 2 and not isinstance(site.args[1], int) else site.args[1:]
        return Permute(tuple(int(axis) % rank for axis in axes))
    if function in ("transpose", torch.transpose, "swapaxes", torch.swapaxes):
        axes = list(range(rank))
        a, b = int(site.argument(1, "dim0")) % rank, int(site.argument(2, "dim1")) % rank
        axes[a], axes[b] = axes[b], axes[a]
        return Permute(tuple(axes))
    if function in _RESHAPES:
        shape = site.output_shape
        if shape == (None, prod(site.shape[1:])):
            return nn.Flatten()
        if rank == 2 and shape == (None, site.shape[1], *[1] * (len(shape) - 2)) and len(shape) > 2:
            return AppendAxes(len(shape) - 2)
        return _new_shape(site)
    if function is F.interpolate and site.argument(3, "mode", "nearest") == "nearest" and rank == 4:
        height, width = site.output_shape[2:]
        return nn.Upsample(size=(height, width), mode="nearest") if height and width else None
    if function in (torch.roll, "roll"):
        shifts, dims = site.argument(1, "shifts"), site.argument(2, "dims")
        shifts, dims = ((value,) if isinstance(value, int) else tuple(value) for value in (shifts, dims))
        moves = {dim % rank: shift % site.shape[dim] for shift, dim in zip(shifts, dims, strict=True)}
        return Roll(moves) if all(map(site.is_fixed, moves)) else None
    return None


def _new_shape(site: Site) -> Reshape | None:
    """A view in the shape of the output, of which one size may depend on the batch."""
    shape = tuple(-1 if size is None else size for size in site.output_shape)
    return Reshape(shape) if shape.count(-1) <= 1 else None


def _part(site: Site) -> nn.Module | None:
    """One item of a chunk or split; equal parts of the channels stay equal parts where channels are pruned."""
    index, rank = int(site.pick or 0), len(site.shape)
    axis = int(site.argument(1 if site.function in (torch.unbind, "unbind") else 2, "dim", 0)) % rank
    size = site.shape[axis]
    if not site.is_fixed(axis):
        return None
    if site.function in (torch.unbind, "unbind"):
        item = Slice({axis: (index, index + 1, 1)})
        return nn.Sequential(item, shape) if (shape := _new_shape(site)) is not None else None
    if site.function in (torch.chunk, "chunk"):
        step = -(-size // int(site.argument(1, "chunks")))
        sizes = [step] * (size // step) + ([size % step] if size % step else [])
    elif site.function in (torch.split, "split"):
        given = site.argument(1, "split_size_or_sections", site.kwargs.get("split_size"))
        sizes = [given] * (size // given) if isinstance(given, int) else list(given)
    else:
        return None
    if axis == 1 and len(set(sizes)) == 1 and sum(sizes) == size:
        return ChannelChunk(len(sizes), index)
    start = sum(sizes[:index])
    return Slice({axis: (start, start + sizes[index], 1)})


def _indexed(site: Site) -> nn.Module | None:
    """x[:, a:b], x[..., 0], x[:, :, None]: ranges, and a new shape where an axis comes or goes."""
    index, rank = site.args[1], len(site.shape)
    items = list(index) if isinstance(index, (tuple, list)) else [index]
    taken = sum(item is not None and item is not Ellipsis for item in items)
    if Ellipsis in items:
        i = items.index(Ellipsis)
        items[i : i + 1] = [slice(None)] * (rank - taken)
    ranges: dict[int, tuple[int, int, int]] = {}
    axis, reshapes = 0, False
    for item in items:
        if item is None:
            reshapes = True
            continue
        size = site.shape[axis]
        if isinstance(item, int):
            ranges[axis], reshapes = (item % size, item % size + 1, 1), True
        elif isinstance(item, slice):
            if item.indices(size) != (0, size, 1):
                ranges[axis] = item.indices(size)
        else:
            return None
        axis += 1
    if not all(map(site.is_fixed, ranges)):
        return None
    parts: list[nn.Module] = [Slice(ranges)] if ranges else []
    if reshapes:
        shape = _new_shape(site)
        if shape is None:
            return None
        parts.append(shape)
    return nn.Sequential(*parts) if len(parts) > 1 else parts[0] if parts else nn.Identity()


def _reduced(site: Site) -> nn.Module | None:
    """Means, sums and extremes over axes, activations and powers of one tensor."""
    rank, function = len(site.shape), site.function
    if function in _UNARY:
        return cast(nn.Module, _UNARY[function]())
    if function in _ACTIVATIONS and len(site.inputs) == 1:
        names, kind = _ACTIVATIONS[function]
        settings = {
            name: site.argument(i + 1, name) for i, name in enumerate(names) if site.argument(i + 1, name) is not None
        }
        return cast(nn.Module, kind(**settings))
    if function in _POOLS:
        return cast(nn.Module, _POOLS[function](site.argument(1, "output_size")))
    op_type = _REDUCTIONS.get(function)
    if op_type is None or len(site.inputs) != 1:
        return None
    first = 1
    if op_type == "ReduceL2":
        if site.argument(1, "p", "fro") not in (2, "fro"):
            return None
        first = 2
    dim = site.argument(first, "dim", site.kwargs.get("axis"))
    keepdim = bool(site.argument(first + 1, "keepdim", False))
    axes = sorted_axes(dim, rank)
    if not all(map(site.is_fixed, axes)):
        return None
    if op_type == "ReduceMean" and rank == 4 and axes == (2, 3) and keepdim:
        return nn.AdaptiveAvgPool2d(1)
    return Reduce(op_type, axes, keepdim=keepdim)


def _paired(site: Site) -> nn.Module | None:
    """Operations of two tensors, or of one and a number."""
    function = site.function
    if function in (torch.cat, torch.concat, torch.concatenate):
        axis = int(site.argument(1, "dim", 0)) % len(site.shape)
        return None if axis == 0 else Concat() if axis == 1 else ConcatAxis(axis)
    if function is F.scaled_dot_product_attention and not site.held and len(site.inputs) >= 3:
        places = [site.argument(i, key) for i, key in enumerate(("query", "key", "value", "attn_mask"))]
        if places != [Slot(i) for i in range(len(site.inputs))] + [None] * (4 - len(site.inputs)):
            return None
        return DotProductAttention(site.argument(6, "scale"))
    if len(site.inputs) == 2:
        if function in _BINARY:
            return Binary(_BINARY[function])
        if function in (operator.add, operator.iadd, torch.add, "add", "add_"):
            return Add()
        if function in (operator.mul, operator.imul, torch.mul, "mul", "mul_"):
            return Scale()
    if (
        len(site.inputs) == 1
        and function in (operator.sub, torch.sub, torch.rsub)
        and not isinstance(site.args[0], Slot)
    ):
        return Affine(-1.0, float(site.args[0]))
    if len(site.inputs) == 1 and function in (operator.pow, torch.pow, "pow") and site.argument(1, "exponent") == 2:
        return None
    return None


_DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
_BRANCH_DROPOUTS = ("stochastic_depth", "drop_path")
"""Names of functions that drop whole branches in training (Huang et al. 2016, https://arxiv.org/abs/1603.09382)."""
_RESHAPES = (
    "view", "reshape", torch.reshape, "flatten", torch.flatten, "unsqueeze", torch.unsqueeze, "squeeze", torch.squeeze,
    "unflatten", torch.unflatten, "expand", "expand_as", "view_as", "reshape_as",
)  # fmt: skip
_SHAPED_LIKE = ("expand_as", "view_as", "reshape_as")
_BINARY: dict[Any, str] = {
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub"), "Sub"),
    **dict.fromkeys((operator.truediv, torch.div, "div"), "Div"),
    **dict.fromkeys((torch.max, torch.maximum, "maximum"), "Max"),
    **dict.fromkeys((torch.min, torch.minimum, "minimum"), "Min"),
    **dict.fromkeys((operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm"), "MatMul"),
}
_UNARY: dict[Any, Any] = {
    **dict.fromkeys((torch.abs, "abs"), lambda: Unary("Abs")),
    **dict.fromkeys((torch.exp, "exp"), lambda: Unary("Exp")),
    **dict.fromkeys((torch.log, "log"), lambda: Unary("Log")),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), lambda: Unary("Neg")),
    **dict.fromkeys((torch.sqrt, "sqrt"), lambda: Unary("Sqrt")),
    **dict.fromkeys((torch.tanh, F.tanh, "tanh"), nn.Tanh),
    **dict.fromkeys((F.relu_, torch.relu_, "relu_"), nn.ReLU),
    **dict.fromkeys((F.sigmoid, "sigmoid_"), nn.Sigmoid),
    F.mish: nn.Mish,
    F.selu: nn.SELU,
    F.logsigmoid: nn.LogSigmoid,
    F.softsign: nn.Softsign,
}
_ACTIVATIONS: dict[Any, tuple[tuple[str, ...], Any]] = {
    F.leaky_relu: (("negative_slope",), nn.LeakyReLU),
    F.elu: (("alpha",), nn.ELU),
    F.celu: (("alpha",), nn.CELU),
    F.softplus: (("beta", "threshold"), nn.Softplus),
    F.hardtanh: (("min_val", "max_val"), nn.Hardtanh),
    F.gelu: (("approximate",), nn.GELU),
    F.hardswish: ((), nn.Hardswish),
    F.hardsigmoid: ((), nn.Hardsigmoid),
    F.silu: ((), nn.SiLU),
    F.local_response_norm: (("size", "alpha", "beta", "k"), nn.LocalResponseNorm),
}
_POOLS: dict[Any, Any] = {F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d, F.adaptive_max_pool2d: nn.AdaptiveMaxPool2d}
_REDUCTIONS: dict[Any, str] = {
    **dict.fromkeys((torch.mean, "mean"), "ReduceMean"),
    **dict.fromkeys((torch.sum, "sum"), "ReduceSum"),
    **dict.fromkeys((torch.amax, "amax"), "ReduceMax"),
    **dict.fromkeys((torch.amin, "amin"), "ReduceMin"),
    **dict.fromkeys((torch.norm, "norm"), "ReduceL2"),
}


def with_axis_from_front(module: nn.Module, rank: int) -> nn.Module:
    """A softmax whose axis counts from the front; other modules as they are."""
    if isinstance(module, nn.Softmax | nn.LogSoftmax) and module.dim is not None and module.dim < 0:
        return type(module)(dim=module.dim % rank)
    return module
