"""Quantisation-aware training: the fake-quantised graph with weights that learn through the rounding.

Gradients pass a rounding as if it were not there, and stop where a value is clipped (Jacob et al. 2018,
https://arxiv.org/abs/1712.05877). The weights' grids follow the largest weight of each channel and the activations'
stay where calibration put them, or both are learned (LSQ, Esser et al. 2020, https://arxiv.org/abs/1902.08153). What is
different here: steps are learned by their logarithm (TQT, Jain et al. 2020, https://arxiv.org/abs/1903.08066), so that
one learning rate suits them all, and biases are rounded to the grid that the runtime gives them.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

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
    """A `FakeQuantize` that lets gradients through.

    Args:
        grid: where it starts from; its zero point stays.
        log_step: shared logarithm of the step, where it is learned.
        may_widen: whether a learned step may grow beyond the calibrated one.
    """

    def __init__(
        self, fake_quantize: FakeQuantize, *, log_scale: nn.Parameter | None = None, can_widen: bool = True
    ) -> None:
        super().__init__()
        self.fake_quantize, self.log_scale, self.max_scale = (
            fake_quantize,
            log_scale,
            math.inf if can_widen else fake_quantize.scale,
        )
        self.low, self.high = (
            fake_quantize.quant_min - fake_quantize.zero_point,
            fake_quantize.quant_max - fake_quantize.zero_point,
        )

    @property
    def scale(self) -> float:
        """Width of one level now."""
        return (
            self.fake_quantize.scale
            if self.log_scale is None
            else min(math.exp(float(self.log_scale.detach())), self.max_scale)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; float32 whatever comes in, so that autocast does not round twice."""
        found: Tensor = _FakeQuantizeFunction.apply(x.float(), self.log_scale, self.scale, self.low, self.high)  # type: ignore[no-untyped-call]
        return found

    def converted(self) -> FakeQuantize:
        """The grid as it is exported."""
        old = self.fake_quantize
        return FakeQuantize(scale=self.scale, zero_point=old.zero_point, signed=old.signed, grid_group=old.grid_group)


class TrainableQuantizedLayer(Leaf):
    """A `QuantizedLayer` whose weights and biases learn through their rounding.

    Args:
        layer: the float layer that learns.
        source: the grid that it reads.
        steps: learn the weights' steps too.
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
        per_channel = scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        weight, bias = _round_to_scale(layer.weight, per_channel, learn_scale=self.log_scales is not None), layer.bias
        if bias is not None:
            grid = scale.detach() * self.input_quantize.scale
            bias = bias + (torch.round(bias / grid) * grid - bias).detach()
        tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        found: Tensor = functional_call(layer, tensors, x)  # whatever form of forward pass the layer was given
        return found

    def converted(self) -> QuantizedLayer:
        """The layer as it is exported."""
        scale = None if self.log_scales is None else self.log_scales.detach().exp()
        return QuantizedLayer(self.layer, input_scale=self.input_quantize.converted().scale, weight_scale=scale)

    def _max_abs_scale(self) -> Tensor:
        weight, bias = self.layer.weight.detach(), self.layer.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        return weight_scales(weight, bias, input_scale=self.input_quantize.scale)


class TrainableCast(Leaf):
    """A `PrecisionCast` in training: float32, for gradients would vanish in float16."""

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

    Weights that are exactly 0 stay so: whoever put them there wanted it. Grids behind a ReLU6 do not widen, or runtimes
    could no longer leave it out.

    Args:
        graph: from `Quantize.on_graph`.
        learn_scales: learn the grids too.
    """
    logs: dict[str, nn.Parameter] = {}
    capped = {module.grid_group for node, module in _fake_quantizers(graph) if _is_fed_by(graph, node, nn.ReLU6)}
    for node in module_nodes(graph):
        name, module = str(node.target), module_of(graph, node)
        if isinstance(module, FakeQuantize):
            if learn_scales and module.grid_group not in logs:
                logs[module.grid_group] = nn.Parameter(torch.tensor(module.scale).log())
            may_widen = module.grid_group not in capped
            graph.set_submodule(
                name, TrainableFakeQuantize(module, log_scale=logs.get(module.grid_group), can_widen=may_widen)
            )
        elif isinstance(module, QuantizedLayer):
            source = cast(TrainableFakeQuantize, module_of(graph, node.all_input_nodes[0]))
            graph.set_submodule(name, TrainableQuantizedLayer(module.layer, source, learn_scales=learn_scales))
        elif isinstance(module, PrecisionCast):
            graph.set_submodule(name, TrainableCast(module))
    for parameter in graph.parameters():
        if parameter.ndim > 1 and bool((parameter == 0).any()):
            parameter.register_hook(_GradientMask(parameter.detach() != 0))  # type: ignore[no-untyped-call]
    graph.recompile()


def convert_qat(graph: fx.GraphModule) -> None:
    """Undo `learn`, in place: the modules that are exported, with what was learned."""
    for node in module_nodes(graph):
        module = module_of(graph, node)
        if isinstance(module, TrainableFakeQuantize | TrainableQuantizedLayer | TrainableCast):
            graph.set_submodule(str(node.target), module.converted())
    graph.recompile()


def _fake_quantizers(graph: fx.GraphModule) -> list[tuple[fx.Node, FakeQuantize]]:
    found = [(node, module_of(graph, node)) for node in module_nodes(graph)]
    return [(node, module) for node, module in found if isinstance(module, FakeQuantize)]


def _is_fed_by(graph: fx.GraphModule, node: fx.Node, kind: type[nn.Module]) -> bool:
    source = node.all_input_nodes[0]
    return source.op == "call_module" and isinstance(module_of(graph, source), kind)


class _GradientMask:
    """A gradient hook that lets only some elements learn."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, gradient: Tensor) -> Tensor:
        return gradient * self.mask.to(gradient.device)


def _round_to_scale(weight: Tensor, scale: Tensor, *, learn_scale: bool) -> Tensor:
    """Rounded weights; with `learn_scale` the gradient also reaches the scale (LSQ, equation 3)."""
    if not learn_scale:
        return weight + (torch.round(weight / scale) * scale - weight).detach()
    share = 1 / math.sqrt(weight[0].numel() * WEIGHT_QMAX)
    scale = scale * share + (scale * (1 - share)).detach()
    levels = (weight / scale).clamp(-WEIGHT_QMAX, WEIGHT_QMAX)
    return (levels + (torch.round(levels) - levels).detach()) * scale


class _FakeQuantizeFunction(torch.autograd.Function):
    """clamp(round(x / scale), low, high) * scale in one pass, as quick as a ReLU; torch's own takes ten times that.

    The gradient of the step's logarithm is scaled by 1 / sqrt(count of values x highest level), as in LSQ.
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
        inside: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, low, high)
        if not rest:
            return inside, None, None, None, None
        share = 1 / math.sqrt(x[0].numel() * 127)
        to_step = ((gradient * rest[0]).sum() - (inside * x).sum()) * share
        return inside, to_step, None, None, None
