"""Weights of 4, 2 and 1 bits: how they are rounded, how they are trained, and how a file stores them.

- 4 bits: levels -7..7 with one scale per output channel; the largest weight gets the highest level.
- 2 bits: ternary weight networks (Li et al. 2016, https://arxiv.org/abs/1605.04711): -1, 0, 1 times the mean magnitude
  of the weights that are not 0. Weights of at most 0.7 times the channel's mean magnitude become 0.
- 1 bit: XNOR-Net's weights (Rastegari et al. 2016, https://arxiv.org/abs/1603.05279): -1, 1 times the channel's mean
  magnitude.

All three leave already rounded weights unchanged. A file stores them as int4 followed by a cast and a multiplication,
which a runtime computes once, when it loads the file. ONNX Runtime 1.31 does not do so for DequantizeLinear, which it
repeats for every image: a 3x3 convolution of 64 channels takes 168 us with it and 98 us without.
"""

from math import log2

import numpy as np
import numpy.typing as npt
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional as F

from nas.compression.quantization.affine import broadcast_channels, narrow_range_scale, quant_range, quantize
from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.onnx_ops import emit, emit_weighted
from search_spaces._leaf import Leaf

BINARY, TERNARY, INT4 = 1, 2, 4
PACKED_BITS = {BINARY: 1.0, TERNARY: log2(3), INT4: 4.0}
"""Bits of one weight where weights are packed as densely as their levels allow."""
INT4_OPSET = 21
"""First ONNX opset with int4."""
INT4_RUNTIME = "onnxruntime"
"""The runtime that reads int4 weights of a convolution; TensorRT does not."""
TERNARY_THRESHOLD = 0.7
"""Rule of thumb of the paper, between the optima of uniform (0.67) and normal (0.75) weights."""

WeightedLayer = nn.Conv2d | nn.Linear


def quantize_low_bit(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Integer levels, in the weight's shape, and the scale of each output channel [C].

    Args:
        weight: [C, ...].
        bits: 1, 2 or 4.
    """
    magnitude = weight.abs().flatten(1)  # [C, weights of one channel]
    if bits == INT4:
        step = narrow_range_scale(magnitude.amax(1), bits=INT4)
        low, high = quant_range(INT4, signed=True, narrow_range=True)
        return quantize(
            weight,
            broadcast_channels(step.clamp(min=torch.finfo(step.dtype).tiny), weight),
            quant_min=low,
            quant_max=high,
        ), step
    if bits == BINARY:
        return torch.where(weight < 0, -1.0, 1.0), magnitude.mean(1)
    is_nonzero = magnitude > TERNARY_THRESHOLD * magnitude.mean(1, keepdim=True)
    step = (magnitude * is_nonzero).sum(1) / is_nonzero.sum(1).clamp(min=1)
    return weight.sign() * is_nonzero.reshape(weight.shape), step


def round_low_bit(weight: Tensor, bits: int) -> Tensor:
    """The weight rounded to its levels; same shape."""
    levels, step = quantize_low_bit(weight, bits)
    return levels * broadcast_channels(step, weight)


class StraightThroughRounding(nn.Module):
    """Parametrisation: the layer computes with rounded weights, and their gradient reaches the full-precision ones."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """Same shape."""
        return weight + (round_low_bit(weight, self.bits) - weight).detach()


class LowBitLayer(Leaf):
    """A convolution or linear layer whose weights are stored as int4 levels; it computes in floating point.

    Args:
        layer: the layer; its weights are not changed.
        bits: 1, 2 or 4.
        is_float16: whether it computes in float16.
    """

    def __init__(self, layer: WeightedLayer, *, bits: int, is_float16: bool) -> None:
        super().__init__()
        self.layer, self.is_float16 = layer, is_float16
        levels, step = quantize_low_bit(layer.weight.detach(), bits)
        self.register_buffer("levels", levels.to(torch.int8))
        self.register_buffer("step", step)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], or [N, C] where the layer is linear."""
        levels, layer = self.get_buffer("levels").float(), self.layer
        weight = levels * broadcast_channels(self.get_buffer("step"), levels)
        if self.is_float16:
            weight = weight.half().float()
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, layer.bias)
        return F.conv2d(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


@emit.register
def _low_bit_layer(module: LowBitLayer, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    levels = module.get_buffer("levels")
    builder.opset = max(builder.opset, INT4_OPSET)
    stored = f"{name}.weight_levels"
    builder.initializers[stored] = int4_initializer(stored, levels.numpy())
    step = builder.add_constant(f"{name}.weight_step", broadcast_channels(module.get_buffer("step"), levels).numpy())
    value = builder.add_node("Cast", [stored], f"{name}.weight/cast", to=TensorProto.FLOAT)
    weights = [builder.add_node("Mul", [value, step], f"{name}.weight")]
    if inputs[0] in builder.float16_values:
        weights = [builder.add_node("Cast", weights, f"{name}.weight/half", to=TensorProto.FLOAT16)]
    if module.layer.bias is not None:
        weights.append(builder.add_parameter(f"{name}.bias", module.layer.bias, dtype_like=inputs[0]))
    return emit_weighted(module.layer, builder, name, [*inputs, *weights])


def int4_initializer(name: str, levels: npt.NDArray[np.int8]) -> TensorProto:
    """An initialiser of levels -8..7, two per byte, the first one in the lower half."""
    flat = np.append(levels.ravel(), np.zeros(levels.size % 2, np.int8)) & 15
    packed = (flat[0::2] | flat[1::2] << 4).astype(np.uint8)
    initializer: TensorProto = helper.make_tensor(name, TensorProto.INT4, levels.shape, packed.tobytes(), raw=True)
    return initializer
