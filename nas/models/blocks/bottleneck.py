"""Inverted bottleneck of MobileNetV2 and V3 (https://arxiv.org/abs/1801.04381, https://arxiv.org/abs/1905.02244).

It is a 1x1 expansion, a depthwise convolution, an optional squeeze-and-excitation, and a 1x1 projection without
activation. The input is added where stride and width allow.
"""

from torch import nn

from search_spaces._ops import Residual, conv_bn_act, named_sequential


def inverted_residual(
    width_in: int,
    width: int,
    *,
    expanded_width: int,
    stride: int,
    kernel: int = 3,
    activation: type[nn.Module] = nn.ReLU6,
    squeeze_excite: nn.Module | None = None,
) -> nn.Module:
    """A block from [N, width_in, H, W] to [N, width, ceil(H/stride), ceil(W/stride)].

    Args:
        width_in: input channels.
        width: output channels.
        expanded_width: channels of the depthwise convolution; there is no expansion if it equals `width_in`.
        stride: of the depthwise convolution.
        kernel: side of the depthwise convolution.
        activation: after the expansion and the depthwise convolution.
        squeeze_excite: a module for the output of the depthwise convolution, or None.
    """
    body = named_sequential(
        up=None if expanded_width == width_in else conv_bn(width_in, expanded_width, 1, activation=activation),
        dw=conv_bn(expanded_width, expanded_width, kernel, stride=stride, groups=expanded_width, activation=activation),
        gates=squeeze_excite,
        down=conv_bn_act(expanded_width, width, 1, activation=None),
    )
    return Residual(body) if stride == 1 and width_in == width else body


def conv_bn(
    width_in: int, width: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: type[nn.Module]
) -> nn.Module:
    """Convolution without bias, batch norm, and an activation of the given class."""
    layer = conv_bn_act(width_in, width, kernel, stride=stride, groups=groups, activation=None)
    layer.add_module("act", activation())
    return layer
