"""The modules of a quantised graph: each computes in float what a runtime computes in integers, and has an ONNX form.

Quantisation is uniform (Jacob et al. 2018, https://arxiv.org/abs/1712.05877): q = clamp(round(x / scale) + zero point),
ties to even as in ONNX. Weights are int8 with one scale per output channel; biases are int32 on the grid of input scale
times weight scale, because runtimes round them so, and a twin with float biases differs from its file.
"""

from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional as F

from nas.compression.quantization.affine import bounds, dequantise, narrow_step, quantise
from nas.onnx_export.graph_builder import Writer
from nas.onnx_export.onnx_ops import conv_attributes, emit
from search_spaces._leaf import Leaf

WEIGHT_MAX = 127
BIAS_MAX = 2**30
"""Half of what int32 holds, so that the sum over a kernel window cannot overflow."""


class FakeQuant(Leaf):
    """Rounds a tensor to one of 256 levels: uint8 with a zero point, or int8 with zero point 0.

    Args:
        scale: width of one level, positive.
        zero_point: level of 0.0; must be 0 when signed.
        signed: levels -128..127 instead of 0..255.
        group: tensors whose grids must stay equal carry the same word.
    """

    def __init__(self, *, scale: float, zero_point: int = 0, signed: bool = False, group: str = "") -> None:
        super().__init__()
        self.scale, self.zero_point, self.signed = float(np.float32(scale)), zero_point, signed
        self.group = group
        self.low, self.high = bounds(8, signed=signed)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        levels = quantise(x, self.scale, zero_point=self.zero_point, low=self.low, high=self.high)
        return dequantise(levels, self.scale, zero_point=self.zero_point)

    def extra_repr(self) -> str:
        """The grid, for `print(net)`."""
        return f"scale={self.scale:g}, zero_point={self.zero_point}, signed={self.signed}"


class Cast(Leaf):
    """The border of a float16 unit, where the runtime goes on in `bits` bits. Nothing is rounded: see `_half`."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x


class QuantLayer(Leaf):
    """A convolution or linear layer in integers.

    Args:
        layer: the float layer; its weights are not changed.
        input_scale: scale of the tensor that it reads.
        weight_scale: of each output channel [C], positive; None takes the largest weight for the highest level.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, *, input_scale: float, weight_scale: Tensor | None = None) -> None:
        super().__init__()
        self.layer = layer
        weight = layer.weight.detach()
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach()
        scale = channel_scale(weight, bias, input_scale=input_scale, weight_scale=weight_scale)
        bias_scale = (scale.double() * input_scale).float()
        self.register_buffer("weight_scale", scale)
        self.register_buffer("bias_scale", bias_scale)
        per_channel = scale.reshape(-1, *[1] * (weight.ndim - 1))
        levels = quantise(weight, per_channel, low=-WEIGHT_MAX, high=WEIGHT_MAX)
        self.register_buffer("weight_levels", levels.to(torch.int8))
        self.register_buffer("bias_levels", torch.round(bias.double() / bias_scale.double()).to(torch.int32))
        self.input_scale = input_scale

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], or [N, C] where the layer is linear.

        Summed over whole levels, as a runtime does: in float32 that is exact up to 2^24, so ties fall to the same side.
        """
        levels, weight = torch.round(x / self.input_scale), self.get_buffer("weight_levels").float()
        bias, scale = self.get_buffer("bias_levels").float(), self.get_buffer("bias_scale")
        if isinstance(self.layer, nn.Linear):
            return F.linear(levels, weight, bias) * scale
        conv = self.layer
        sums = F.conv2d(levels, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        return sums * scale[:, None, None]


def channel_scale(weight: Tensor, bias: Tensor, *, input_scale: float, weight_scale: Tensor | None = None) -> Tensor:
    """Width of a weight level for each output channel [C], float32, positive.

    A channel of tiny weights with a large bias gets coarser weights, or its bias would not fit into int32.

    Args:
        weight: [C, ...].
        bias: [C].
        input_scale: of the tensor that the layer reads.
        weight_scale: wished for [C]; None takes the largest weight for the highest level.
    """
    peak = weight.flatten(1).abs().amax(1).double()
    scale = narrow_step(peak, bits=8) if weight_scale is None else weight_scale.double()
    return torch.maximum(scale.clamp(min=1e-14), bias.abs().double() / (input_scale * BIAS_MAX)).float()


@emit.register
def _fake_quant(module: FakeQuant, writer: Writer, name: str, inputs: list[str]) -> str:
    kind: Any = np.int8 if module.signed else np.uint8
    scale = writer.constant(f"{name}.scale", np.array(module.scale, np.float32))
    zero = writer.constant(f"{name}.zero_point", np.array(module.zero_point, kind))
    levels = writer.node("QuantizeLinear", [*inputs, scale, zero], f"{name}/quantize")
    return writer.node("DequantizeLinear", [levels, scale, zero], name)


@emit.register
def _cast(module: Cast, writer: Writer, name: str, inputs: list[str]) -> str:
    value = writer.node("Cast", inputs, name, to=TensorProto.FLOAT16 if module.bits == 16 else TensorProto.FLOAT)
    if module.bits == 16:
        writer.half.add(value)
    return value


@emit.register
def _quant_layer(module: QuantLayer, writer: Writer, name: str, inputs: list[str]) -> str:
    values = [_dequantized(module, key, writer, name) for key in ("weight", "bias")]
    if isinstance(module.layer, nn.Linear):
        return writer.node("Gemm", [*inputs, *values], name, transB=1)
    return writer.node("Conv", [*inputs, *values], name, **conv_attributes(module.layer, name))


def _dequantized(module: QuantLayer, key: str, writer: Writer, name: str) -> str:
    levels = module.get_buffer(f"{key}_levels").numpy()
    scale = writer.constant(f"{name}.{key}_scale", module.get_buffer(f"{key}_scale").numpy())
    zero = writer.constant(f"{name}.{key}_zero_point", np.zeros(len(levels), levels.dtype))
    stored = writer.constant(f"{name}.{key}", levels)
    return writer.node("DequantizeLinear", [stored, scale, zero], f"{name}.{key}/dequantize", axis=0)
