"""A fake-quantised graph trained by NNI's QAT or LSQ quantiser, and read back into the modules that are exported.

Where the graph has a `FakeQuant`, the training has an empty tap whose output NNI quantises; tensors that share
a grid share a tap. Layers are quantised per output channel. Every grid starts from what calibration found.

QAT (Jacob et al. 2018, https://arxiv.org/abs/1712.05877) follows the extremes by a moving average. LSQ (Esser et al.
2020, https://arxiv.org/abs/1902.08153) learns the steps; it knows no zero point, so tensors with negative values get
symmetric grids of 255 levels. Different here: NNI starts LSQ's steps at 0.01 each and learns them as they are, which
one learning rate cannot serve; they start from calibration and are learned by their logarithm. Biases are rounded to
the grid of the file at the end only.
"""

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from nas.compression.base import Fit
from nas.compression.nni import adapter as _nni
from nas.compression.quantization.fake_quantize import Cast, FakeQuant, QuantLayer
from nas.errors import TrainError
from nas.onnx_export.folding import module_nodes, module_of

METHODS = {"qat": "QATQuantizer", "lsq": "LsqQuantizer"}


class GridTap(nn.Module):
    """Passes a tensor on, of any shape, in float32 whatever autocast made of it; NNI quantises what comes out."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x.float()


@dataclass(frozen=True)
class _Found:
    """The frozen modules of a graph in training, by name.

    Attributes:
        layers: quantised layers.
        grids: of tensors.
        casts: borders of float16 units.
        taps: grid to the first of those that share its tap; NNI knows a shared tap by that name.
        sources: layer to the grid that it reads.
    """

    layers: dict[str, QuantLayer]
    grids: dict[str, FakeQuant]
    casts: dict[str, Cast]
    taps: dict[str, str]
    sources: dict[str, str]


def train_grids(graph: fx.GraphModule, method: str, fit: Fit) -> None:
    """Train a fake-quantised graph, in place; afterwards it holds the same kinds of modules as before.

    Args:
        graph: with `FakeQuant`, `QuantLayer` and `Cast` modules, as the member quantize leaves it.
        method: "qat" or "lsq".
        fit: trains the graph.

    Raises:
        TrainError: a grid's step is no longer a positive number.
        MissingPackageError: nni is not installed.
    """
    kind = getattr(_nni.quantization(GridTap), METHODS[method])
    found = _find(graph)
    _thaw(graph, found)
    quantizer = kind(graph, _config(found, method), None)
    _start(quantizer, found, method)
    _keep_zeros(graph)
    with _nni.quiet():
        fit(graph)
    learned = quantizer.get_calibration_config()
    quantizer.unwrap_model()
    _freeze(graph, found, learned)


def _find(graph: fx.GraphModule) -> _Found:
    modules = {str(node.target): module_of(graph, node) for node in module_nodes(graph)}
    first: dict[str, str] = {}
    grids = {name: module for name, module in modules.items() if isinstance(module, FakeQuant)}
    return _Found(
        layers={name: module for name, module in modules.items() if isinstance(module, QuantLayer)},
        grids=grids,
        casts={name: module for name, module in modules.items() if isinstance(module, Cast)},
        taps={name: first.setdefault(grid.group or name, name) for name, grid in grids.items()},
        sources={str(node.target): str(node.all_input_nodes[0].target) for node in module_nodes(graph)},
    )


def _thaw(graph: fx.GraphModule, found: _Found) -> None:
    """Put what can learn where the frozen modules stand."""
    taps = {name: GridTap() for name in found.taps.values()}
    for name, first in found.taps.items():
        graph.set_submodule(name, taps[first])
    for name, layer in found.layers.items():
        graph.set_submodule(name, copy.deepcopy(layer.layer))
    for name in found.casts:
        graph.set_submodule(name, nn.Identity())  # gradients would vanish in float16
    graph.recompile()


def _config(found: _Found, method: str) -> list[dict[str, Any]]:
    def entry(names: list[str], target: str, **setting: Any) -> list[dict[str, Any]]:
        return [{"op_names": names, "target_names": [target], **setting}] if names else []

    symmetric = {"quant_dtype": "int8", "quant_scheme": "symmetric"}
    kinds: dict[str, list[str]] = {"int8": [], "uint8": []}
    for name in dict.fromkeys(found.taps.values()):
        kinds[_tap_type(found.grids[name], method)].append(name)
    scheme = "affine" if method == "qat" else "symmetric"
    return [
        *entry(list(found.layers), "weight", **symmetric, granularity="out_channel"),
        *entry(kinds["int8"], "_output_", **symmetric),
        *entry(kinds["uint8"], "_output_", quant_dtype="uint8", quant_scheme=scheme),
    ]


def _tap_type(grid: FakeQuant, method: str) -> str:
    return "int8" if grid.signed or (method == "lsq" and grid.zero_point != 0) else "uint8"


def _start(quantizer: Any, found: _Found, method: str) -> None:
    """Begin with the grids of the calibration."""
    spaces = quantizer._target_spaces
    for name, layer in found.layers.items():
        scale = layer.get_buffer("weight_scale").reshape(-1, *[1] * (layer.layer.weight.ndim - 1))
        _begin(spaces[name]["weight"], scale, torch.zeros_like(scale), method)
    for name in dict.fromkeys(found.taps.values()):
        grid = found.grids[name]
        step, zero = grid.scale, float(grid.zero_point)
        if _tap_type(grid, method) == "int8" and not grid.signed:
            step, zero = grid.scale * max(zero, grid.high - zero) / 127, 0.0
        _begin(spaces[name]["_output_0"], torch.tensor(step), torch.tensor(zero), method)
    quantizer.is_init = True  # of LSQ: no second start at 0.01


def _begin(space: Any, scale: Tensor, zero: Tensor, method: str) -> None:
    space.zero_point = zero.clone()
    if method == "qat":
        space.scale = scale.clone()
        space.tracked_max, space.tracked_min = scale * (space.qmax - zero), scale * (space.qmin - zero)
        return
    wrapper, name = space._wrapper, space._scale_name
    setattr(wrapper, name, nn.Parameter(scale.flatten().log()))
    parametrize.register_parametrization(wrapper, name, _Exp(tuple(scale.shape)), unsafe=True)


def _keep_zeros(graph: fx.GraphModule) -> None:
    """Weights that are exactly 0 stay so: whoever put them there wanted it."""
    for weight in [p for p in graph.parameters() if p.ndim > 1 and bool((p == 0).any())]:
        weight.register_hook(partial(_masked, mask=weight.detach() != 0))  # type: ignore[no-untyped-call]


def _masked(gradient: Tensor, *, mask: Tensor) -> Tensor:
    return gradient * mask.to(gradient.device)


class _Exp(nn.Module):
    """A step from its logarithm [C], in the step's own shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, logarithm: Tensor) -> Tensor:
        return logarithm.exp().reshape(self.shape)


def _freeze(graph: fx.GraphModule, found: _Found, learned: Any) -> None:
    """Put frozen modules back, with what was learned."""
    grids = {name: _frozen_grid(found.grids[name], learned[name]["_output_0"], name) for name in found.taps.values()}
    for name, first in found.taps.items():
        graph.set_submodule(name, copy.deepcopy(grids[first]))
    for name in found.layers:
        layer, scale = graph.get_submodule(name), learned[name]["weight"]["scale"].detach().flatten()
        input_scale = grids[found.taps[found.sources[name]]].scale
        frozen = QuantLayer(layer, input_scale=input_scale, weight_scale=_positive(scale, name))  # type: ignore[arg-type]
        graph.set_submodule(name, frozen)
    for name, cast in found.casts.items():
        graph.set_submodule(name, cast)
    graph.recompile()


def _frozen_grid(old: FakeQuant, learned: Any, name: str) -> FakeQuant:
    scale = float(_positive(learned["scale"].detach(), name))
    zero = round(float(learned["zero_point"]))
    if learned["quant_dtype"] == "int8" and not old.signed:
        zero = 128
    return FakeQuant(scale=scale, zero_point=zero, signed=old.signed, group=old.group)


def _positive(scale: Tensor, name: str) -> Tensor:
    if not bool(((scale > 0) & torch.isfinite(scale)).all()):
        raise TrainError(
            f"steps of grids must be positive, but {name!r} learned {float(scale.min()):g}; lower the rate"
        )
    return scale
