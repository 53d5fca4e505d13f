"""Quantisation-aware training: a fake-quantised graph whose weights, and on request scales, learn through the rounding.

Gradients pass a rounding unchanged and are zero where a value is clipped (Jacob et al. 2018,
https://arxiv.org/abs/1712.05877). Without learned scales, the grid of the weights follows the largest weight of each
channel and the grids of activations stay as calibrated. With learned scales both are trained (LSQ, Esser et al. 2020,
https://arxiv.org/abs/1902.08153).

What is different here: scales are learned by their logarithm (TQT, Jain et al. 2020, https://arxiv.org/abs/1903.08066),
so that one learning rate suits them all, and biases are rounded to the grid that the runtime gives them.
"""

import math
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from nas.compression.quantization.affine import broadcast_channels
from nas.compression.quantization.fake_quantize import (
    WEIGHT_QMAX,
    FakeQuantize,
    PrecisionCast,
    QuantizedLayer,
    weight_scales,
)
from nas.onnx_export.folding import module_nodes, module_of
from search_spaces._leaf import Leaf


class TrainableFakeQuantize(Leaf):
    """A `FakeQuantize` that passes gradients on.

    Args:
        fake_quantize: the calibrated quantiser to start from; its zero point stays.
        log_scale: shared logarithm of the scale, where the scale is learned.
        can_widen: whether a learned scale may exceed the calibrated one.
    """

    def __init__(
        self, fake_quantize: FakeQuantize, *, log_scale: nn.Parameter | None = None, can_widen: bool = True
    ) -> None:
        super().__init__()
        self.fake_quantize, self.log_scale = fake_quantize, log_scale
        self.max_scale = math.inf if can_widen else fake_quantize.scale
        # The levels relative to the zero point, so that the rounding needs no offset.
        self.low = fake_quantize.quant_min - fake_quantize.zero_point
        self.high = fake_quantize.quant_max - fake_quantize.zero_point

    @property
    def scale(self) -> float:
        """The current step between two levels."""
        if self.log_scale is None:
            return self.fake_quantize.scale
        return min(math.exp(float(self.log_scale.detach())), self.max_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; computed in float32 whatever the input's type, so that autocast does not round twice."""
        rounded: Tensor = _FakeQuantizeFunction.apply(x.float(), self.log_scale, self.scale, self.low, self.high)  # type: ignore[no-untyped-call]
        return rounded

    def converted(self) -> FakeQuantize:
        """The quantiser as it is exported."""
        old = self.fake_quantize
        return FakeQuantize(scale=self.scale, zero_point=old.zero_point, signed=old.signed, grid_group=old.grid_group)


class TrainableQuantizedLayer(Leaf):
    """A `QuantizedLayer` whose weights and biases are trained through their rounding.

    Args:
        layer: the float layer whose weights are trained.
        input_quantize: the quantiser that the layer reads.
        learn_scales: whether the scales of the weights are trained too.
    """

    def __init__(
        self, layer: nn.Conv2d | nn.Linear, input_quantize: TrainableFakeQuantize, *, learn_scales: bool
    ) -> None:
        super().__init__()
        self.layer, self.input_quantize = layer, input_quantize
        self.log_scales = nn.Parameter(self._max_abs_scale().log()) if learn_scales else None  # [C]

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], or [N, C] where the layer is linear."""
        layer = self.layer
        scale = self._max_abs_scale() if self.log_scales is None else self.log_scales.exp()
        per_channel = broadcast_channels(scale, layer.weight)
        weight, bias = _round_to_scale(layer.weight, per_channel, learn_scale=self.log_scales is not None), layer.bias
        if bias is not None:
            bias_scale = scale.detach() * self.input_quantize.scale
            bias = bias + (torch.round(bias / bias_scale) * bias_scale - bias).detach()
        tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        # functional_call keeps a patched forward pass, such as the fast depthwise gradients.
        output: Tensor = functional_call(layer, tensors, x)
        return output

    def converted(self) -> QuantizedLayer:
        """The layer as it is exported."""
        scale = None if self.log_scales is None else self.log_scales.detach().exp()
        return QuantizedLayer(self.layer, input_scale=self.input_quantize.converted().scale, weight_scale=scale)

    def _max_abs_scale(self) -> Tensor:
        weight, bias = self.layer.weight.detach(), self.layer.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        return weight_scales(weight, bias, input_scale=self.input_quantize.scale)


class TrainableCast(Leaf):
    """A `PrecisionCast` in training: float32, because gradients would vanish in float16."""

    def __init__(self, cast: PrecisionCast) -> None:
        super().__init__()
        self.cast = cast

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x

    def converted(self) -> PrecisionCast:
        """The cast as it is exported."""
        return self.cast


def prepare_qat(graph: fx.GraphModule, *, learn_scales: bool) -> None:
    """Make a fake-quantised graph trainable, in place.

    Weights that are exactly 0 stay 0. Grids behind a ReLU6 do not widen, because runtimes could no longer leave the
    ReLU6 out.

    Args:
        graph: from `Quantize.rewrite_graph`.
        learn_scales: whether scales are trained too.
    """
    logs: dict[str, nn.Parameter] = {}
    capped = {module.grid_group for node, module in _fake_quantizers(graph) if _is_fed_by(graph, node, nn.ReLU6)}
    for node in module_nodes(graph):
        name, module = str(node.target), module_of(graph, node)
        if isinstance(module, FakeQuantize):
            if learn_scales and module.grid_group not in logs:
                logs[module.grid_group] = nn.Parameter(torch.tensor(module.scale).log())
            trainable = TrainableFakeQuantize(
                module, log_scale=logs.get(module.grid_group), can_widen=module.grid_group not in capped
            )
            graph.set_submodule(name, trainable)
        elif isinstance(module, QuantizedLayer):
            source = cast(TrainableFakeQuantize, module_of(graph, node.all_input_nodes[0]))
            graph.set_submodule(name, TrainableQuantizedLayer(module.layer, source, learn_scales=learn_scales))
        elif isinstance(module, PrecisionCast):
            graph.set_submodule(name, TrainableCast(module))
    freeze_zero_weights(graph)
    graph.recompile()


def convert_qat(graph: fx.GraphModule) -> None:
    """Undo `prepare_qat`, in place: put in the modules that are exported, with the trained values."""
    for node in module_nodes(graph):
        module = module_of(graph, node)
        if isinstance(module, TrainableFakeQuantize | TrainableQuantizedLayer | TrainableCast):
            graph.set_submodule(str(node.target), module.converted())
    graph.recompile()


def freeze_zero_weights(net: nn.Module) -> None:
    """Keep weights that are exactly 0 at 0 in further training: their gradients are masked from now on.

    Zeros come from pruning; a fine-tuning that changed them would undo it. Biases and scales (one dimension) are free.
    """
    for weight in net.parameters():
        if weight.ndim > 1 and bool((weight == 0).any()):
            weight.register_hook(partial(_mask_gradient, mask=weight.detach() != 0))  # type: ignore[no-untyped-call]


def _mask_gradient(gradient: Tensor, *, mask: Tensor) -> Tensor:
    return gradient * mask.to(gradient.device)


def _fake_quantizers(graph: fx.GraphModule) -> list[tuple[fx.Node, FakeQuantize]]:
    modules = [(node, module_of(graph, node)) for node in module_nodes(graph)]
    return [(node, module) for node, module in modules if isinstance(module, FakeQuantize)]


def _is_fed_by(graph: fx.GraphModule, node: fx.Node, kind: type[nn.Module]) -> bool:
    source = node.all_input_nodes[0]
    return source.op == "call_module" and isinstance(module_of(graph, source), kind)


def _round_to_scale(weight: Tensor, scale: Tensor, *, learn_scale: bool) -> Tensor:
    """Rounded weights; with `learn_scale` the gradient also reaches the scale (LSQ, equation 3)."""
    if not learn_scale:
        return weight + (torch.round(weight / scale) * scale - weight).detach()
    # The value stays scale; its gradient is multiplied by LSQ's factor (section 2.2), per channel of the weight.
    factor = 1 / math.sqrt(weight[0].numel() * WEIGHT_QMAX)
    scale = scale * factor + (scale * (1 - factor)).detach()
    levels = (weight / scale).clamp(-WEIGHT_QMAX, WEIGHT_QMAX)
    return (levels + (torch.round(levels) - levels).detach()) * scale


class _FakeQuantizeFunction(torch.autograd.Function):
    """clamp(round(x / scale), low, high) * scale in one pass, as fast as a ReLU; torch's own takes ten times as long.

    The gradient of the logarithm of the scale is multiplied by 1 / sqrt(number of values x highest level), as in LSQ.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_scale: Tensor | None, scale: float, low: int, high: int) -> Tensor:
        y = x.div(scale).round_().clamp_(low, high).mul_(scale)
        ctx.save_for_backward(x, *([] if log_scale is None else [y]))
        ctx.bounds = low * scale, high * scale
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, *rest = ctx.saved_tensors
        low, high = ctx.bounds
        inside: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, low, high)  # 0 where x is clipped
        if not rest:
            return inside, None, None, None, None
        # d(y)/d(log scale) = y - x inside and y where clipped: scale * d(y)/d(scale) of LSQ, equation 3.
        factor = 1 / math.sqrt(x[0].numel() * WEIGHT_QMAX)
        log_scale_gradient = ((gradient * rest[0]).sum() - (inside * x).sum()) * factor
        return inside, log_scale_gradient, None, None, None
