"""Operations of cells. Each keeps the width: [N, C, H, W] to [N, C, ceil(H / stride), ceil(W / stride)].

After DARTS (Liu et al. 2019, https://arxiv.org/abs/1806.09055), MobileNetV2 (https://arxiv.org/abs/1801.04381) and
PIBConv. Different here:

- the order is conv-BN-activation (DARTS: activation-conv-BN), which runtimes fuse into one kernel with a ReLU;
- separable convolutions exist applied once and, as in DARTS, twice, which takes exactly two times the latency;
- a skip with stride 2 is a 1x1 convolution with stride 2 and batch norm, not DARTS' FactorizedReduce, whose slice needs
  padding on odd maps and becomes five ONNX nodes;
- activations are never in place, which tracing tools do not support.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import cache, lru_cache

from torch import Tensor, nn

from search_spaces._leaf import Add
from search_spaces._work import Workload, fusion_tail, scaled_workload

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "hard_swish": nn.Hardswish}

NONE_OP = "none"
"""Name of the op that cuts an edge. It has no module; nodes that it leaves without an input are dropped."""


def named_sequential(**parts: nn.Module | None) -> nn.Sequential:
    """The modules in order, under their names; None is left out."""
    return nn.Sequential(OrderedDict((name, part) for name, part in parts.items() if part is not None))


def make_activation(name: str) -> nn.Module:
    """A new activation.

    Raises:
        ValueError: `name` is not in `ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, but got {name!r}")
    return ACTIVATIONS[name]()


def conv(
    width_in: int, width_out: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution without bias, padded so that the map keeps its size at stride 1."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(width_in, width_out, kernel, stride, padding, dilation, groups, bias=False)


def conv_bn_act(
    width_in: int, width_out: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: str | None
) -> nn.Sequential:
    """Convolution, batch norm and, unless None, activation; with a ReLU one kernel in a runtime."""
    return named_sequential(
        conv=conv(width_in, width_out, kernel, stride=stride, groups=groups),
        bn=nn.BatchNorm2d(width_out),
        act=None if activation is None else make_activation(activation),
    )


class Residual(nn.Module):
    """act(body(x) + shortcut(x)), where a missing shortcut or activation is the identity."""

    def __init__(self, body: nn.Module, *, shortcut: nn.Module | None = None, activation: str | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.add = Add()
        self.act = None if activation is None else make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Shape of the output of `body`."""
        y: Tensor = self.add(self.body(x), x if self.shortcut is None else self.shortcut(x))
        return y if self.act is None else self.act(y)


def make_shortcut(width_in: int, width_out: int, stride: int) -> nn.Module | None:
    """None where the shapes agree, else 1x1 convolution and batch norm."""
    same = width_in == width_out and stride == 1
    return None if same else conv_bn_act(width_in, width_out, 1, stride=stride, activation=None)


def skip(width: int, stride: int, activation: str) -> nn.Module:
    """Identity; with stride 2 a 1x1 convolution and batch norm."""
    return make_shortcut(width, width, stride) or nn.Identity()


def max_pool(width: int, stride: int, activation: str) -> nn.Module:
    """3x3 max pooling."""
    return nn.MaxPool2d(3, stride, padding=1)


def avg_pool(width: int, stride: int, activation: str) -> nn.Module:
    """3x3 average pooling, without the padding in the mean."""
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


def separable(width: int, stride: int, activation: str, *, kernel: int, dilation: int = 1) -> nn.Module:
    """Depthwise kxk, then 1x1-BN-activation."""
    return named_sequential(
        dw=conv(width, width, kernel, stride=stride, dilation=dilation, groups=width),
        pw=conv(width, width, 1),
        bn=nn.BatchNorm2d(width),
        act=make_activation(activation),
    )


def separable_twice(width: int, stride: int, activation: str, *, kernel: int) -> nn.Module:
    """DARTS' separable convolution: two in a row, the first with the stride."""
    return named_sequential(
        first=separable(width, stride, activation, kernel=kernel),
        second=separable(width, 1, activation, kernel=kernel),
    )


def dense_conv(width: int, stride: int, activation: str) -> nn.Module:
    """Plain 3x3 convolution."""
    return conv_bn_act(width, width, 3, stride=stride, activation=activation)


def residual_conv(width: int, stride: int, activation: str) -> nn.Module:
    """act(BN(conv3x3(x)) + x), the shortcut being a 1x1 convolution where the stride is 2."""
    body = conv_bn_act(width, width, 3, stride=stride, activation=None)
    return Residual(body, shortcut=make_shortcut(width, width, stride), activation=activation)


def inverted_bottleneck(width: int, stride: int, activation: str, *, expansion: int = 3) -> nn.Module:
    """MobileNetV2's block: 1x1 expansion, depthwise 3x3, linear 1x1 projection, plus x where the stride is 1."""
    inner = expansion * width
    body = named_sequential(
        up=conv_bn_act(width, inner, 1, activation=activation),
        dw=conv_bn_act(inner, inner, 3, stride=stride, groups=inner, activation=activation),
        down=conv_bn_act(inner, width, 1, activation=None),
    )
    return Residual(body) if stride == 1 else body


def pib_conv(width: int, stride: int, activation: str, *, kernel: int = 3) -> nn.Module:
    """PIBConv as published, whose second kxk convolution has two inputs per group. 3C^2 + 3k^2C weights.

    Depthwise kxk, BN, 1x1 to 2C, kxk from 2C to C in C groups, GELU (whatever `activation` is), 1x1; no BN at the end.
    """
    return named_sequential(
        dw=conv(width, width, kernel, stride=stride, groups=width),
        bn=nn.BatchNorm2d(width),
        up=conv(width, 2 * width, 1),
        mix=conv(2 * width, width, kernel, groups=width),
        gelu=nn.GELU(),
        pw=conv(width, width, 1),
    )


def pib_conv_depthwise(width: int, stride: int, activation: str, *, kernel: int = 3) -> nn.Module:
    """PIBConv with a true depthwise second convolution on 2C, then 1x1 back to C. 4C^2 + 3k^2C weights.

    It has more MACs than the published form and is twice as fast in ONNX Runtime, which has no fast kernel for two
    inputs per group.
    """
    return named_sequential(
        dw=conv(width, width, kernel, stride=stride, groups=width),
        bn=nn.BatchNorm2d(width),
        up=conv(width, 2 * width, 1),
        mix=conv(2 * width, 2 * width, kernel, groups=2 * width),
        gelu=nn.GELU(),
        pw=conv(2 * width, width, 1),
    )


OPS: dict[str, Callable[[int, int, str], nn.Module]] = {
    "skip": skip,
    "max_pool_3x3": max_pool,
    "avg_pool_3x3": avg_pool,
    "sep_conv_3x3": lambda w, s, a: separable(w, s, a, kernel=3),
    "sep_conv_5x5": lambda w, s, a: separable(w, s, a, kernel=5),
    "sep_conv_3x3_twice": lambda w, s, a: separable_twice(w, s, a, kernel=3),
    "sep_conv_5x5_twice": lambda w, s, a: separable_twice(w, s, a, kernel=5),
    "dil_conv_3x3": lambda w, s, a: separable(w, s, a, kernel=3, dilation=2),
    "dil_conv_5x5": lambda w, s, a: separable(w, s, a, kernel=5, dilation=2),
    "conv_3x3": dense_conv,
    "res_conv_3x3": residual_conv,
    "mb_conv_3x3": inverted_bottleneck,
    "pib_conv_3x3": pib_conv,
    "pib_conv_3x3_depthwise": pib_conv_depthwise,
}
"""Name to builder(width, stride, activation)."""

UNSEARCHED_OPS: dict[str, Callable[[int, int, str], nn.Module]] = {
    "pib_conv_5x5": lambda w, s, a: pib_conv(w, s, a, kernel=5),
}
"""Ops of published cells that are not searched."""


def make_op(name: str, *, width: int, stride: int, activation: str) -> nn.Module:
    """A new op.

    Raises:
        ValueError: `name` is in neither `OPS` nor `UNSEARCHED_OPS`.
    """
    known = {**OPS, **UNSEARCHED_OPS}
    if name not in known:
        raise ValueError(f"op must be one of {', '.join(known)}, but got {name!r}")
    return known[name](width, stride, activation)


@lru_cache(maxsize=100_000)
def op_workload(name: str, *, width: int, stride: int, size: int, activation: str) -> Workload:
    """Workload of an op on a square map of this height."""
    return scaled_workload(_op_builder(name, stride, activation), width, size, -(-size // stride))


def op_fusion_tail(name: str, *, stride: int, activation: str) -> str:
    """What a sum behind the op can be fused into, see `_work.TAIL_CONV`; empty for nothing, and for the identity."""
    return fusion_tail(_op_builder(name, stride, activation))


@cache
def _op_builder(name: str, stride: int, activation: str) -> Callable[[int], nn.Module]:
    """Width to a new op. One object for each op, stride and activation, since workload caches are keyed by it."""
    return lambda width: make_op(name, width=width, stride=stride, activation=activation)
