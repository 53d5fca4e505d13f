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

from nas.compression.quantization.fake_quantize import WEIGHT_MAX, Cast, FakeQuant, QuantLayer, channel_scale
from nas.onnx_export.folding import module_nodes, module_of
from search_spaces._leaf import Leaf


class LearnedGrid(Leaf):
    """A `FakeQuant` that lets gradients through.

    Args:
        grid: where it starts from; its zero point stays.
        log_step: shared logarithm of the step, where it is learned.
        may_widen: whether a learned step may grow beyond the calibrated one.
    """

    def __init__(self, grid: FakeQuant, *, log_step: nn.Parameter | None = None, may_widen: bool = True) -> None:
        super().__init__()
        self.grid, self.log_step, self.widest = grid, log_step, math.inf if may_widen else grid.scale
        self.low, self.high = grid.low - grid.zero_point, grid.high - grid.zero_point

    @property
    def scale(self) -> float:
        """Width of one level now."""
        return self.grid.scale if self.log_step is None else min(math.exp(float(self.log_step.detach())), self.widest)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; float32 whatever comes in, so that autocast does not round twice."""
        found: Tensor = _Round.apply(x.float(), self.log_step, self.scale, self.low, self.high)  # type: ignore[no-untyped-call]
        return found

    def frozen(self) -> FakeQuant:
        """The grid as it is exported."""
        old = self.grid
        return FakeQuant(scale=self.scale, zero_point=old.zero_point, signed=old.signed, group=old.group)


class LearnedLayer(Leaf):
    """A `QuantLayer` whose weights and biases learn through their rounding.

    Args:
        layer: the float layer that learns.
        source: the grid that it reads.
        steps: learn the weights' steps too.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, source: LearnedGrid, *, steps: bool) -> None:
        super().__init__()
        self.layer, self.source = layer, source
        self.log_steps = nn.Parameter(self._widest().log()) if steps else None  # [C]

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], or [N, C] where the layer is linear."""
        layer = self.layer
        scale = self._widest() if self.log_steps is None else self.log_steps.exp()
        per_channel = scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        weight, bias = _on_grid(layer.weight, per_channel, learned=self.log_steps is not None), layer.bias
        if bias is not None:
            grid = scale.detach() * self.source.scale
            bias = bias + (torch.round(bias / grid) * grid - bias).detach()
        tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        found: Tensor = functional_call(layer, tensors, x)  # whatever form of forward pass the layer was given
        return found

    def frozen(self) -> QuantLayer:
        """The layer as it is exported."""
        scale = None if self.log_steps is None else self.log_steps.detach().exp()
        return QuantLayer(self.layer, input_scale=self.source.frozen().scale, weight_scale=scale)

    def _widest(self) -> Tensor:
        weight, bias = self.layer.weight.detach(), self.layer.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        return channel_scale(weight, bias, input_scale=self.source.scale)


class LearnedCast(Leaf):
    """A `Cast` in training: float32, for gradients would vanish in float16."""

    def __init__(self, cast: Cast) -> None:
        super().__init__()
        self.cast = cast

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x

    def frozen(self) -> Cast:
        """The cast as it is exported."""
        return self.cast


def learn(graph: fx.GraphModule, *, steps: bool) -> None:
    """Make a fake-quantised graph trainable, in place.

    Weights that are exactly 0 stay so: whoever put them there wanted it. Grids behind a ReLU6 do not widen, or runtimes
    could no longer leave it out.

    Args:
        graph: from `Quantize.on_graph`.
        steps: learn the grids too.
    """
    logs: dict[str, nn.Parameter] = {}
    capped = {module.group for node, module in _grids(graph) if _reads(graph, node, nn.ReLU6)}
    for node in module_nodes(graph):
        name, module = str(node.target), module_of(graph, node)
        if isinstance(module, FakeQuant):
            if steps and module.group not in logs:
                logs[module.group] = nn.Parameter(torch.tensor(module.scale).log())
            may_widen = module.group not in capped
            graph.set_submodule(name, LearnedGrid(module, log_step=logs.get(module.group), may_widen=may_widen))
        elif isinstance(module, QuantLayer):
            source = cast(LearnedGrid, module_of(graph, node.all_input_nodes[0]))
            graph.set_submodule(name, LearnedLayer(module.layer, source, steps=steps))
        elif isinstance(module, Cast):
            graph.set_submodule(name, LearnedCast(module))
    for parameter in graph.parameters():
        if parameter.ndim > 1 and bool((parameter == 0).any()):
            parameter.register_hook(_Keep(parameter.detach() != 0))  # type: ignore[no-untyped-call]
    graph.recompile()


def freeze(graph: fx.GraphModule) -> None:
    """Undo `learn`, in place: the modules that are exported, with what was learned."""
    for node in module_nodes(graph):
        module = module_of(graph, node)
        if isinstance(module, LearnedGrid | LearnedLayer | LearnedCast):
            graph.set_submodule(str(node.target), module.frozen())
    graph.recompile()


def _grids(graph: fx.GraphModule) -> list[tuple[fx.Node, FakeQuant]]:
    found = [(node, module_of(graph, node)) for node in module_nodes(graph)]
    return [(node, module) for node, module in found if isinstance(module, FakeQuant)]


def _reads(graph: fx.GraphModule, node: fx.Node, kind: type[nn.Module]) -> bool:
    source = node.all_input_nodes[0]
    return source.op == "call_module" and isinstance(module_of(graph, source), kind)


class _Keep:
    """A gradient hook that lets only some elements learn."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, gradient: Tensor) -> Tensor:
        return gradient * self.mask.to(gradient.device)


def _on_grid(weight: Tensor, scale: Tensor, *, learned: bool) -> Tensor:
    """Rounded weights; with `learned` the gradient also reaches the scale (LSQ, equation 3)."""
    if not learned:
        return weight + (torch.round(weight / scale) * scale - weight).detach()
    share = 1 / math.sqrt(weight[0].numel() * WEIGHT_MAX)
    scale = scale * share + (scale * (1 - share)).detach()
    levels = (weight / scale).clamp(-WEIGHT_MAX, WEIGHT_MAX)
    return (levels + (torch.round(levels) - levels).detach()) * scale


class _Round(torch.autograd.Function):
    """clamp(round(x / scale), low, high) * scale in one pass, as quick as a ReLU; torch's own takes ten times that.

    The gradient of the step's logarithm is scaled by 1 / sqrt(count of values x highest level), as in LSQ.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_step: Tensor | None, scale: float, low: int, high: int) -> Tensor:
        y = x.div(scale).round_().clamp_(low, high).mul_(scale)
        ctx.save_for_backward(x, *([] if log_step is None else [y]))
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
