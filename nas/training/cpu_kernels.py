"""CPU kernels that oneDNN lacks: fast gradients of depthwise convolutions, and a safe form of strided 1x1 ones.

torch's CPU kernels are quick for the depthwise 3x3 at stride 1 only. Otherwise a gradient falls back on reference code
that takes 10 to 60 times the forward pass: that of the weights for kernels over 3x3, both for dilated kernels, that of
the input for stride 2 in bfloat16, and everything for two inputs per group. All of them are sums of the quick case:

- the input's gradient is a depthwise convolution of the output's gradient with the turned kernel, at stride 2 after
  putting zeros between its rows and columns;
- a dilated kernel is a plain one on each phase of the map (one pixel of two, in rows and columns);
- a kxk kernel's gradient is put together from 3x3 windows of it;
- a group with two inputs is a depthwise convolution whose neighbouring channels are added.

Every form is exact up to rounding. Weights, names and what the net computes stay as they are.

In torch 2.13 the gradient of a strided 1x1 convolution ends the process (a fault in oneDNN's JIT code) for 8 input
channels in float32 and channels_last on a CPU. Taking every s-th pixel first and convolving without a stride computes
the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@contextmanager
def fast_depthwise_backward(net: nn.Module) -> Iterator[None]:
    """While it lasts, the net's slow depthwise convolutions learn by the quick forms.

    Meant for channels_last and bfloat16 on a CPU, where every form gains (3 to 30 times); in fp32 some lose.
    """
    slow = [m for m in net.modules() if isinstance(m, nn.Conv2d) and has_slow_backward(m)]
    for conv in slow:
        conv.forward = partial(_strided_1x1_forward, conv)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for conv in slow:
            del conv.forward


def has_slow_backward(conv: nn.Conv2d) -> bool:
    """Whether torch's own gradient is slow and a quick form is known: odd square kernels that keep the map's size."""
    kernel, stride, dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
    square = all(len(set(pair)) == 1 for pair in (conv.kernel_size, conv.stride, conv.dilation))
    same = conv.padding == (dilation * (kernel // 2),) * 2 and conv.padding_mode == "zeros"
    depthwise = 1 < conv.groups == conv.out_channels and conv.in_channels in (conv.groups, 2 * conv.groups)
    known = square and same and depthwise and kernel % 2 == 1 and kernel > 1 and stride in (1, 2)
    quick_already = kernel == 3 and stride == dilation == 1 and conv.in_channels == conv.groups
    return known and not quick_already and dilation in (1, 2)


def _strided_1x1_forward(conv: nn.Conv2d, x: Tensor) -> Tensor:
    weight = conv.weight
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
    weight = weight.reshape(conv.in_channels, 1, *conv.kernel_size)
    y: Tensor = _DepthwiseConv2d.apply(x, weight, conv.stride[0], conv.dilation[0])  # type: ignore[no-untyped-call]
    if conv.in_channels != conv.groups:
        y = y.view(len(y), conv.groups, 2, *y.shape[2:]).sum(2)
    return y if conv.bias is None else y + conv.bias.to(y.dtype)[:, None, None]


class _DepthwiseConv2d(torch.autograd.Function):
    """Depthwise convolution of [N, C, H, W] with [C, 1, k, k], zero padding d (k - 1) / 2 on all sides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.settings = stride, dilation
        return _depthwise_conv(x, weight, stride, dilation)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        stride, dilation = ctx.settings
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        wanted = ctx.needs_input_grad
        to_x = _grad_input(gradient, weight, x, stride, dilation) if wanted[0] else None
        to_weight = _grad_weight(x, gradient, weight.shape[-1], stride, dilation) if wanted[1] else None
        return to_x, to_weight, None, None


def _depthwise_conv(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    padding = dilation * (weight.shape[-1] // 2)
    return functional.conv2d(x, weight, None, stride, padding, dilation, len(weight))


def _grad_input(gradient: Tensor, weight: Tensor, x: Tensor, stride: int, dilation: int) -> Tensor:
    if stride > 1:
        spread = torch.zeros_like(x)
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread  # [N, C, H, W]
    return _depthwise_conv(gradient, weight.flip(2, 3), 1, dilation)


def _grad_weight(x: Tensor, gradient: Tensor, kernel_size: int, stride: int, dilation: int) -> Tensor:
    if dilation > 1 and stride == dilation:  # outputs read even rows and columns only
        x, stride = x[:, :, ::stride, ::stride], 1
    elif dilation > 1:
        x, gradient = _space_to_batch(x, dilation), _space_to_batch(gradient, dilation)
    pad, size = kernel_size // 2, [(side - 1) * stride + 3 for side in gradient.shape[2:]]
    x = functional.pad(x, (pad,) * 4)
    total = gradient.new_empty(x.shape[1], 1, kernel_size, kernel_size)
    for i in range(0, kernel_size - 2, 2):
        for j in range(0, kernel_size - 2, 2):
            window = x[:, :, i : i + size[0], j : j + size[1]].contiguous(memory_format=torch.channels_last)
            total[:, :, i : i + 3, j : j + 3] = _grad_weight_3x3(window, gradient, stride)
    return total


def _grad_weight_3x3(x: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """The quick case: no padding, no dilation."""
    channels = x.shape[1]
    like = x.new_empty(channels, 1, 3, 3)
    found: Tensor = torch.ops.aten.convolution_backward(
        gradient, x, like, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], channels, [False, True, False]
    )[1]
    return found


def _space_to_batch(x: Tensor, block_size: int) -> Tensor:
    """[N, C, H, W] to [count^2 N, C, ceil(H / count), ceil(W / count)]: each phase becomes an image."""
    n, channels, height, width = x.shape
    x = functional.pad(x, (0, -width % block_size, 0, -height % block_size)).permute(0, 2, 3, 1)
    rows, columns = x.shape[1] // block_size, x.shape[2] // block_size
    x = x.reshape(n, rows, block_size, columns, block_size, channels).permute(2, 4, 0, 1, 3, 5)
    return x.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)  # [count^2 N, C, rows, columns], channels_last


@contextmanager
def strided_1x1_workaround(net: nn.Module) -> Iterator[None]:
    """While it lasts, the net's strided 1x1 convolutions are computed on the pixels that they read."""
    strided = [m for m in net.modules() if isinstance(m, nn.Conv2d) and is_strided_1x1(m)]
    for conv in strided:
        conv._conv_forward = partial(_strided_forward, conv)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for conv in strided:
            del conv._conv_forward


def is_strided_1x1(conv: nn.Conv2d) -> bool:
    """Whether a convolution reads single pixels, and not all of them."""
    return conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.padding == (0, 0)


def _strided_forward(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows, columns = conv.stride
    return functional.conv2d(x[:, :, ::rows, ::columns], weight, bias, groups=conv.groups)
