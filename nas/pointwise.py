"""1x1 convolutions with a stride, in a form that torch does not crash in.

In torch 2.13 the gradient of such a convolution ends the process (a fault in oneDNN's JIT code) for 8 input channels in
float32 and channels_last on a CPU. Taking every s-th pixel first and convolving without a stride computes the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn
from torch.nn import functional


@contextmanager
def safe_strides(net: nn.Module) -> Iterator[None]:
    """While it lasts, the net's strided 1x1 convolutions are computed on the pixels that they read."""
    strided = [m for m in net.modules() if isinstance(m, nn.Conv2d) and is_strided_pointwise(m)]
    for conv in strided:
        conv._conv_forward = partial(_forward, conv)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for conv in strided:
            del conv._conv_forward


def is_strided_pointwise(conv: nn.Conv2d) -> bool:
    """Whether a convolution reads single pixels, and not all of them."""
    return conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.padding == (0, 0)


def _forward(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows, columns = conv.stride
    return functional.conv2d(x[:, :, ::rows, ::columns], weight, bias, groups=conv.groups)
