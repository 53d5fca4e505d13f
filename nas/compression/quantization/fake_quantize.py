"""Modules of a quantised graph: each computes in float what a runtime computes in integers, and has an ONNX form.

Quantisation is uniform (Jacob et al. 2018, https://arxiv.org/abs/1712.05877): q = clamp(round(x / scale) + zero point),
ties to even as in ONNX. Weights are int8 with one scale per output channel. Biases are int32 on the grid of input scale
times weight scale, because runtimes round them so; a graph with float biases would differ from its file.
"""

from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional as F

from hw_profiles._base import FLOAT16_BITS, INT8_BITS
from nas.compression.quantization.affine import (
    broadcast_channels,
    dequantize,
    narrow_range_scale,
    quant_range,
    quantize,
)
from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.onnx_ops import emit, emit_weighted
from search_spaces._leaf import Leaf

WEIGHT_QMAX = 127
BIAS_QMAX = 2**30
"""Half of what int32 holds, so that the sum over a kernel window cannot overflow."""


class FakeQuantize(Leaf):
    """Rounds a tensor to one of 256 levels: uint8 with a zero point, or int8 with zero point 0.

    Args:
        scale: step between two levels, positive.
        zero_point: level of 0.0; must be 0 when signed.
        signed: levels -128..127 instead of 0..255.
        grid_group: name shared by the tensors whose grids must stay equal.
    """

    def __init__(self, *, scale: float, zero_point: int = 0, signed: bool = False, grid_group: str = "") -> None:
        super().__init__()
        self.scale, self.zero_point, self.signed = float(np.float32(scale)), zero_point, signed
        self.grid_group = grid_group
        self.quant_min, self.quant_max = quant_range(INT8_BITS, signed=signed)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        levels = quantize(x, self.scale, zero_point=self.zero_point, quant_min=self.quant_min, quant_max=self.quant_max)
        return dequantize(levels, self.scale, zero_point=self.zero_point)

    def extra_repr(self) -> str:
        """The grid, for `print(net)`."""
        return f"scale={self.scale:g}, zero_point={self.zero_point}, signed={self.signed}"


class PrecisionCast(Leaf):
    """Border of an FP16 unit, where the runtime goes on in `bits` bits; it rounds nothing.

    `nas.compression.quantization.float16` explains why.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x


class QuantizedLayer(Leaf):
    """A convolution or linear layer in INT8.

    Args:
        layer: the float layer; its weights are not changed.
        input_scale: scale of the tensor that it reads.
        weight_scale: of each output channel [C], positive; by default the largest weight gets the highest level.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, *, input_scale: float, weight_scale: Tensor | None = None) -> None:
        super().__init__()
        self.layer = layer
        weight = layer.weight.detach()
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach()
        scale = weight_scales(weight, bias, input_scale=input_scale, weight_scale=weight_scale)
        bias_scale = (scale.double() * input_scale).float()
        self.register_buffer("weight_scale", scale)
        self.register_buffer("bias_scale", bias_scale)
        per_channel = broadcast_channels(scale, weight)
        levels = quantize(weight, per_channel, quant_min=-WEIGHT_QMAX, quant_max=WEIGHT_QMAX)
        self.register_buffer("weight_levels", levels.to(torch.int8))
        self.register_buffer("bias_levels", torch.round(bias.double() / bias_scale.double()).to(torch.int32))
        self.input_scale = input_scale

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], or [N, C] where the layer is linear.

        Sums are computed over whole levels, as in a runtime: in float32 they are exact up to 2^24, so ties round to the
        same side.
        """
        levels, weight = torch.round(x / self.input_scale), self.get_buffer("weight_levels").float()
        bias, scale = self.get_buffer("bias_levels").float(), self.get_buffer("bias_scale")
        if isinstance(self.layer, nn.Linear):
            return F.linear(levels, weight, bias) * scale
        conv = self.layer
        sums = F.conv2d(levels, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        return sums * scale[:, None, None]


def weight_scales(weight: Tensor, bias: Tensor, *, input_scale: float, weight_scale: Tensor | None = None) -> Tensor:
    """Scale of the weights of each output channel [C], float32, positive.

    A channel of tiny weights with a large bias gets a larger scale, or its bias would not fit into int32.

    Args:
        weight: [C, ...].
        bias: [C].
        input_scale: of the tensor that the layer reads.
        weight_scale: preferred scales [C]; by default the largest weight gets the highest level.
    """
    max_abs = weight.flatten(1).abs().amax(1).double()
    scale = narrow_range_scale(max_abs, bits=INT8_BITS) if weight_scale is None else weight_scale.double()
    # 1e-14: a channel of zeros needs a positive scale, and times the input's scale it must not underflow in float32.
    return torch.maximum(scale.clamp(min=1e-14), bias.abs().double() / (input_scale * BIAS_QMAX)).float()


@emit.register
def _fake_quantize(module: FakeQuantize, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    kind: Any = np.int8 if module.signed else np.uint8
    scale = builder.add_constant(f"{name}.scale", np.array(module.scale, np.float32))
    zero = builder.add_constant(f"{name}.zero_point", np.array(module.zero_point, kind))
    levels = builder.add_node("QuantizeLinear", [*inputs, scale, zero], f"{name}/quantize")
    return builder.add_node("DequantizeLinear", [levels, scale, zero], name)


@emit.register
def _precision_cast(module: PrecisionCast, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    is_float16 = module.bits == FLOAT16_BITS
    value = builder.add_node("Cast", inputs, name, to=TensorProto.FLOAT16 if is_float16 else TensorProto.FLOAT)
    if is_float16:
        builder.float16_values.add(value)
    return value


@emit.register
def _quantized_layer(module: QuantizedLayer, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    values = [_dequantized(module, key, builder, name) for key in ("weight", "bias")]
    return emit_weighted(module.layer, builder, name, [*inputs, *values])


def _dequantized(module: QuantizedLayer, tensor_name: str, builder: GraphBuilder, name: str) -> str:
    levels = module.get_buffer(f"{tensor_name}_levels").numpy()
    scale = builder.add_constant(f"{name}.{tensor_name}_scale", module.get_buffer(f"{tensor_name}_scale").numpy())
    zero = builder.add_constant(f"{name}.{tensor_name}_zero_point", np.zeros(len(levels), levels.dtype))
    stored = builder.add_constant(f"{name}.{tensor_name}", levels)
    return builder.add_node("DequantizeLinear", [stored, scale, zero], f"{name}.{tensor_name}/dequantize", axis=0)
