"""Weights that take few values, stored as small integers; the arithmetic stays float, so latency does too."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas._onnx_ops import Writer, conv_attributes, emit
from search_spaces._leaf import Leaf

EXACT = 1e-4
"""How far from a level, in levels, a weight may lie through rounding in float32."""


class LevelConv(Leaf):
    """A convolution whose weights are int8 levels times one scale per output channel.

    Args:
        conv: gives the shape and the bias; it is not changed.
        levels: [out, in / groups, k, k] int8.
        scale: [out].
    """

    def __init__(self, conv: nn.Conv2d, *, levels: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.conv = conv
        self.register_buffer("levels", levels.to(torch.int8))
        self.register_buffer("scale", scale.float())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W]."""
        weight = self.get_buffer("levels").float() * self.get_buffer("scale")[:, None, None, None]
        conv = self.conv
        return F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def levels_of(weight: Tensor, *, highest: int) -> tuple[Tensor, Tensor] | None:
    """The coarsest grid around 0 that holds all weights of each output channel, or None where there is none.

    Args:
        weight: [out, ...].
        highest: largest level that a channel may need.

    Returns:
        Levels (whole numbers in -highest..highest, in the weight's shape) and the scale of each channel [out].
    """
    rows = weight.detach().double().flatten(1)  # [out, numbers]
    top = rows.abs().amax(1).clamp(min=1e-30)
    scale = torch.zeros_like(top)
    for count in range(highest, 0, -1):  # the coarsest that fits is written last
        levels = rows / (top / count)[:, None]
        fits = ((levels - levels.round()).abs() < EXACT).all(1)
        scale = torch.where(fits, top / count, scale)
    if bool((scale == 0).any()):
        return None
    return (rows / scale[:, None]).round().reshape(weight.shape), scale


@emit.register
def _level_conv(module: LevelConv, writer: Writer, name: str, inputs: list[str]) -> str:
    stored = writer.constant(f"{name}.weight", module.get_buffer("levels").numpy())
    scale = writer.constant(f"{name}.weight_scale", module.get_buffer("scale").numpy())
    weights = [writer.node("DequantizeLinear", [stored, scale], f"{name}.weight/dequantize", axis=0)]
    if module.conv.bias is not None:
        weights.append(writer.parameter(f"{name}.bias", module.conv.bias, like=inputs[0]))
    return writer.node("Conv", [*inputs, *weights], name, **conv_attributes(module.conv, name))
