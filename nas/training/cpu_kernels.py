"""CPU kernels that work around two faults of torch: slow depthwise gradients, and crashes of strided 1x1 gradients.

Both were found in torch 2.13.0, which bundles oneDNN 3.12.0, on x86 with AVX-512. The tests of this module fail as soon
as a later torch has mended one of them: then delete its workaround.

Depthwise gradients. oneDNN has fast gradient kernels only for the depthwise 3x3 convolution at stride 1. In other cases
torch falls back on reference code, whose backward pass takes 15 to 45 times as long as the forward pass: the gradient
of the weights for kernels over 3x3, both gradients of dilated kernels, and that of the input for stride 2 in bfloat16.
With two inputs per group it takes 2.4 times as long. By the forms here a training step of the convolution (bfloat16,
channels_last, one thread, 32 images of 32x24x24) is faster by these factors:

    3x3, stride 2    7.3        3x3, dilation 2               3.8
    5x5, stride 2    6.5        7x7                           1.7
    5x5              3.9        3x3, two inputs per group     1.4

Each form is a sum of the fast case, exact up to rounding:

- The gradient of the input is a depthwise convolution of the output's gradient with the flipped kernel; at stride 2,
  zeros are inserted between its rows and columns first.
- A dilated kernel is a plain one on each phase of the map: every second pixel, in rows and columns.
- The gradient of a kxk kernel is assembled from 3x3 windows of it.
- A group with two inputs is a depthwise convolution whose neighbouring output channels are added.

Strided 1x1 gradients. With 8 input channels, in float32 and channels_last, the backward pass of a strided 1x1
convolution can end the process, a fault in oneDNN's JIT code; not every CPU shows it. Such layers occur in the `darts`
space. Slicing out the pixels that are read, and convolving those without a stride, computes the same.

Gradients of the weights on small maps. For dense 3x3 convolutions whose output has at most 6x6 pixels, oneDNN takes
two to five times as long for the gradient of the weights in bfloat16 as the matrix product of the output's gradient and
the input's windows (im2col): 128 images of 128x5x5 took 15.3 ms against 6.8, 128x3x3 10.1 against 2.2, 256x3x3 49
against 8.1, and 48 to 128 channels at stride 2 from 10x10 to 5x5 7.7 against 3.0.

Weights, their names, and the function of the network stay as they are.

Beside the kernels: glibc returns large blocks to the system when they are freed, so that each step's activations are
mapped anew, page by page. `keep_freed_memory` tells it to keep them; on one core the training of a network of 417,000
weights became faster by a factor of 1.2.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_MAX_SMALL_MAP_SIDE = 6
_MIN_SMALL_MAP_CHANNELS = 48
_MALLOC_OPTIONS = ((-3, 32 << 20), (-1, (1 << 31) - 1), (-2, 256 << 20))
"""glibc's M_MMAP_THRESHOLD at its largest, M_TRIM_THRESHOLD and M_TOP_PAD, see mallopt(3)."""


@contextmanager
def fast_depthwise_backward(net: nn.Module) -> Iterator[None]:
    """Within the block, the slow depthwise convolutions of a network compute their gradients by the fast forms.

    Meant for channels_last and bfloat16 on a CPU, where every form is faster; in float32 some are slower.
    """
    slow = [m for m in net.modules() if isinstance(m, nn.Conv2d) and has_slow_backward(m)]
    for conv in slow:
        conv.forward = partial(_depthwise_forward, conv)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for conv in slow:
            del conv.forward


def has_slow_backward(conv: nn.Conv2d) -> bool:
    """Whether torch's gradient is slow and a fast form is known: odd square kernels with padding for the same size."""
    kernel, stride, dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
    is_square = all(len(set(pair)) == 1 for pair in (conv.kernel_size, conv.stride, conv.dilation))
    is_same_padding = conv.padding == (dilation * (kernel // 2),) * 2 and conv.padding_mode == "zeros"
    is_depthwise = 1 < conv.groups == conv.out_channels and conv.in_channels in (conv.groups, 2 * conv.groups)
    is_supported = (
        is_square and is_same_padding and is_depthwise and kernel % 2 == 1 and kernel > 1 and stride in (1, 2)
    )
    is_fast_already = kernel == 3 and stride == dilation == 1 and conv.in_channels == conv.groups
    return is_supported and not is_fast_already and dilation in (1, 2)


def _depthwise_forward(conv: nn.Conv2d, x: Tensor) -> Tensor:
    weight = conv.weight
    # Autocast casts the arguments of torch's own operators, but not those of a custom autograd function.
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
    weight = weight.reshape(conv.in_channels, 1, *conv.kernel_size)
    y: Tensor = _DepthwiseConv2d.apply(x, weight, conv.stride[0], conv.dilation[0])  # type: ignore[no-untyped-call]
    if conv.in_channels != conv.groups:
        y = y.view(len(y), conv.groups, 2, *y.shape[2:]).sum(2)
    return y if conv.bias is None else y + conv.bias.to(y.dtype)[:, None, None]


class _DepthwiseConv2d(torch.autograd.Function):
    """Depthwise convolution of [N, C, H, W] with [C, 1, k, k], dilation d, zero padding d (k - 1) / 2 on all sides."""

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
        needs_x, needs_weight, *_ = ctx.needs_input_grad
        grad_x = _grad_input(gradient, weight, x, stride, dilation) if needs_x else None
        grad_weight = _grad_weight(x, gradient, weight.shape[-1], stride, dilation) if needs_weight else None
        return grad_x, grad_weight, None, None


def _depthwise_conv(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    padding = dilation * (weight.shape[-1] // 2)
    return functional.conv2d(x, weight, None, stride, padding, dilation, len(weight))


def _grad_input(gradient: Tensor, weight: Tensor, x: Tensor, stride: int, dilation: int) -> Tensor:
    if stride > 1:  # zeros between the rows and columns: a transposed convolution as a plain one
        spread = torch.zeros_like(x)
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread  # [N, C, H, W]
    return _depthwise_conv(gradient, weight.flip(2, 3), 1, dilation)


def _grad_weight(x: Tensor, gradient: Tensor, kernel_size: int, stride: int, dilation: int) -> Tensor:
    if dilation > 1 and stride == dilation:  # all outputs read the same phase: even rows and columns
        x, stride = x[:, :, ::stride, ::stride], 1
    elif dilation > 1:
        x, gradient = _space_to_batch(x, dilation), _space_to_batch(gradient, dilation)
    # Pixels that a 3x3 window reads for these outputs: the last output starts at (side - 1) * stride.
    pad, size = kernel_size // 2, [(side - 1) * stride + 3 for side in gradient.shape[2:]]
    x = functional.pad(x, (pad,) * 4)
    total = gradient.new_empty(x.shape[1], 1, kernel_size, kernel_size)
    # Steps of 2 overlap by a row and a column, because 3x3 is the only fast size; both computations of those agree.
    for i in range(0, kernel_size - 2, 2):
        for j in range(0, kernel_size - 2, 2):
            window = x[:, :, i : i + size[0], j : j + size[1]].contiguous(memory_format=torch.channels_last)
            total[:, :, i : i + 3, j : j + 3] = _grad_weight_3x3(window, gradient, stride)
    return total


def _grad_weight_3x3(x: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """The fast case, [C, 1, 3, 3]: no padding, no dilation."""
    channels = x.shape[1]
    weight = x.new_empty(channels, 1, 3, 3)  # only its shape counts for the gradient of the weights
    grad_weight: Tensor = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], channels, [False, True, False]
    )[1]
    return grad_weight


def _space_to_batch(x: Tensor, block_size: int) -> Tensor:
    """[N, C, H, W] to [b^2 N, C, ceil(H / b), ceil(W / b)] with block size b: each phase becomes an image."""
    n, channels, height, width = x.shape
    x = functional.pad(x, (0, -width % block_size, 0, -height % block_size)).permute(0, 2, 3, 1)
    rows, columns = x.shape[1] // block_size, x.shape[2] // block_size
    x = x.reshape(n, rows, block_size, columns, block_size, channels).permute(2, 4, 0, 1, 3, 5)
    return x.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)  # [b^2 N, C, rows, columns], channels_last


@contextmanager
def fast_small_map_backward(net: nn.Module) -> Iterator[None]:
    """Within the block, dense 3x3 convolutions with small outputs compute the gradient of their weights by im2col.

    Meant for channels_last and bfloat16 on a CPU, where it is faster.
    """
    dense = [m for m in net.modules() if isinstance(m, nn.Conv2d) and is_dense_3x3(m)]
    for conv in dense:
        conv._conv_forward = partial(_small_map_forward, conv)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for conv in dense:
            del conv._conv_forward


def is_dense_3x3(conv: nn.Conv2d) -> bool:
    """Whether a convolution is one whose gradient on small maps has a faster form."""
    return (
        conv.kernel_size == (3, 3)
        and conv.padding == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.stride in ((1, 1), (2, 2))
        and conv.in_channels >= _MIN_SMALL_MAP_CHANNELS
    )


def _small_map_forward(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    stride = conv.stride[0]
    if not torch.is_grad_enabled() or max(-(-side // stride) for side in x.shape[2:]) > _MAX_SMALL_MAP_SIDE:
        return functional.conv2d(x, weight, bias, conv.stride, conv.padding)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    y: Tensor = _SmallMapConv2d.apply(x, weight, stride)  # type: ignore[no-untyped-call]
    return y if bias is None else y + bias[:, None, None]


class _SmallMapConv2d(torch.autograd.Function):
    """3x3 convolution of [N, C, H, W] with [K, C, 3, 3] and padding 1; the gradient of the weights is by im2col."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return functional.conv2d(x, weight, None, stride, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, [ctx.stride] * 2, [1, 1], [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        if ctx.needs_input_grad[1]:
            grad_weight = _im2col_grad_weight(x, gradient, ctx.stride)
        return grad_x, grad_weight, None


def _im2col_grad_weight(x: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """[K, C, 3, 3] from input [N, C, H, W] and the output's gradient [N, K, h, w]."""
    n, k, rows, columns = gradient.shape
    padded = functional.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1).contiguous()  # [N, H + 2, W + 2, C]
    s_n, s_h, s_w, s_c = padded.stride()
    windows = padded.as_strided(
        (n, rows, columns, 3, 3, padded.shape[3]), (s_n, s_h * stride, s_w * stride, s_h, s_w, s_c)
    ).reshape(n * rows * columns, -1)
    flat = gradient.permute(0, 2, 3, 1).reshape(n * rows * columns, k)
    return (flat.t() @ windows).view(k, 3, 3, -1).permute(0, 3, 1, 2)


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed blocks for the next step; whether it understood (glibc does)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    accepted = [bool(mallopt(option, value)) for option, value in _MALLOC_OPTIONS]
    return all(accepted)


@contextmanager
def strided_1x1_workaround(net: nn.Module) -> Iterator[None]:
    """Within the block, the strided 1x1 convolutions of a network slice their input instead of striding."""
    strided = [m for m in net.modules() if isinstance(m, nn.Conv2d) and is_strided_1x1(m)]
    for conv in strided:
        conv._conv_forward = partial(_strided_1x1_forward, conv)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for conv in strided:
            del conv._conv_forward


def is_strided_1x1(conv: nn.Conv2d) -> bool:
    """Whether a convolution has a 1x1 kernel, a stride, and no padding."""
    return conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.padding == (0, 0)


def _strided_1x1_forward(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    pixels: Tensor = _Subsample.apply(x, *conv.stride)  # type: ignore[no-untyped-call]
    return functional.conv2d(pixels, weight, bias, groups=conv.groups)


class _Subsample(torch.autograd.Function):
    """Every `rows`-th row and `columns`-th column of [N, C, H, W], in channels_last, and so is the gradient.

    The gradient of a slice would be in the contiguous format, and where it meets one in channels_last, each element is
    fetched from afar: the addition takes 14 times as long, and so do the steps that follow.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: int, columns: int) -> Tensor:
        ctx.shape, ctx.strides = x.shape, (rows, columns)
        return x[:, :, ::rows, ::columns].contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, columns = ctx.strides
        spread = gradient.new_zeros(ctx.shape).contiguous(memory_format=torch.channels_last)
        spread[:, :, ::rows, ::columns] = gradient
        return spread, None, None
