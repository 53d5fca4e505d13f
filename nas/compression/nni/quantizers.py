"""Training of a fake-quantised graph by NNI's QAT or LSQ quantiser, converted back into the modules that are exported.

Where the graph has a `FakeQuantize`, the training has an `ActivationTap` whose output NNI quantises; tensors that share
a grid share a tap. Layers are quantised per output channel. Every grid starts from calibration.

- QAT (Jacob et al. 2018, https://arxiv.org/abs/1712.05877) follows the extremes by a moving average.
- LSQ (Esser et al. 2020, https://arxiv.org/abs/1902.08153) learns the scales. It has no zero point, so tensors with
  negative values get symmetric grids of 255 levels.

Different here: NNI starts each scale of LSQ at 0.01 and learns it directly, which one learning rate cannot serve. Here
scales start from calibration and are learned by their logarithm. Biases are rounded to the grid of the file at the end
only.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from nas.compression.base import FineTuneFunction
from nas.compression.nni import adapter
from nas.compression.quantization.affine import broadcast_channels
from nas.compression.quantization.fake_quantize import FakeQuantize, PrecisionCast, QuantizedLayer
from nas.compression.quantization.qat import freeze_zero_weights
from nas.errors import TrainError
from nas.onnx_export.folding import module_nodes, module_of

NNI_QUANTIZERS = {"qat": "QATQuantizer", "lsq": "LsqQuantizer"}


class ActivationTap(nn.Module):
    """Passes a tensor of any shape on in float32, whatever autocast made of it; NNI quantises its output."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x.float()


@dataclass(frozen=True)
class _QuantizedModules:
    """The frozen modules of a graph in training, by name.

    Attributes:
        layers: quantised layers.
        fake_quantizers: quantisers of tensors.
        casts: borders of FP16 units.
        taps: quantiser to the first of those that share its tap; NNI knows a shared tap by that name.
        input_quantizers: layer to the quantiser that it reads.
    """

    layers: dict[str, QuantizedLayer]
    fake_quantizers: dict[str, FakeQuantize]
    casts: dict[str, PrecisionCast]
    taps: dict[str, str]
    input_quantizers: dict[str, str]


def train_quantized_graph(graph: fx.GraphModule, method: str, fit: FineTuneFunction) -> None:
    """Train a fake-quantised graph, in place; afterwards it holds the same kinds of modules as before.

    Args:
        graph: with `FakeQuantize`, `QuantizedLayer` and `PrecisionCast` modules, as the member `quantize` makes it.
        method: "qat" or "lsq".
        fit: trains the graph.

    Raises:
        TrainError: a trained scale is not a positive number.
        MissingPackageError: nni is not installed.
    """
    kind = getattr(adapter.import_quantization(ActivationTap), NNI_QUANTIZERS[method])
    modules = _collect_modules(graph)
    _make_trainable(graph, modules)
    quantizer = kind(graph, _nni_config(modules, method), None)
    _set_initial_scales(quantizer, modules, method)
    freeze_zero_weights(graph)
    with adapter.suppress_deprecation_warnings():
        fit(graph)
    learned = quantizer.get_calibration_config()
    quantizer.unwrap_model()
    _convert(graph, modules, learned)


def _collect_modules(graph: fx.GraphModule) -> _QuantizedModules:
    modules = {str(node.target): module_of(graph, node) for node in module_nodes(graph)}
    first_of_group: dict[str, str] = {}
    quantizers = {name: module for name, module in modules.items() if isinstance(module, FakeQuantize)}
    return _QuantizedModules(
        layers={name: module for name, module in modules.items() if isinstance(module, QuantizedLayer)},
        fake_quantizers=quantizers,
        casts={name: module for name, module in modules.items() if isinstance(module, PrecisionCast)},
        taps={name: first_of_group.setdefault(q.grid_group or name, name) for name, q in quantizers.items()},
        input_quantizers={str(node.target): str(node.all_input_nodes[0].target) for node in module_nodes(graph)},
    )


def _make_trainable(graph: fx.GraphModule, modules: _QuantizedModules) -> None:
    """Replace the frozen modules by trainable ones."""
    taps = {name: ActivationTap() for name in modules.taps.values()}
    for name, first in modules.taps.items():
        graph.set_submodule(name, taps[first])
    for name, layer in modules.layers.items():
        graph.set_submodule(name, copy.deepcopy(layer.layer))
    for name in modules.casts:
        graph.set_submodule(name, nn.Identity())  # FP32 in training: gradients would vanish in float16
    graph.recompile()


def _nni_config(modules: _QuantizedModules, method: str) -> list[dict[str, Any]]:
    def entry(names: list[str], target: str, **setting: Any) -> list[dict[str, Any]]:
        return [{"op_names": names, "target_names": [target], **setting}] if names else []

    symmetric = {"quant_dtype": "int8", "quant_scheme": "symmetric"}
    kinds: dict[str, list[str]] = {"int8": [], "uint8": []}
    for name in dict.fromkeys(modules.taps.values()):
        kinds[_tap_type(modules.fake_quantizers[name], method)].append(name)
    scheme = "affine" if method == "qat" else "symmetric"
    return [
        *entry(list(modules.layers), "weight", **symmetric, granularity="out_channel"),
        *entry(kinds["int8"], "_output_", **symmetric),
        *entry(kinds["uint8"], "_output_", quant_dtype="uint8", quant_scheme=scheme),
    ]


def _tap_type(fake_quantize: FakeQuantize, method: str) -> str:
    return "int8" if fake_quantize.signed or (method == "lsq" and fake_quantize.zero_point != 0) else "uint8"


def _set_initial_scales(quantizer: Any, modules: _QuantizedModules, method: str) -> None:
    """Start from the scales of the calibration."""
    spaces = quantizer._target_spaces
    for name, layer in modules.layers.items():
        scale = broadcast_channels(layer.get_buffer("weight_scale"), layer.layer.weight)
        _set_initial_scale(spaces[name]["weight"], scale, torch.zeros_like(scale), method)
    for name in dict.fromkeys(modules.taps.values()):
        grid = modules.fake_quantizers[name]
        step, zero = grid.scale, float(grid.zero_point)
        if _tap_type(grid, method) == "int8" and not grid.signed:  # symmetric around 0: the longer side sets the scale
            step, zero = grid.scale * max(zero, grid.quant_max - zero) / 127, 0.0
        _set_initial_scale(spaces[name]["_output_0"], torch.tensor(step), torch.tensor(zero), method)
    quantizer.is_init = True  # keeps LSQ from starting again at 0.01


def _set_initial_scale(space: Any, scale: Tensor, zero: Tensor, method: str) -> None:
    space.zero_point = zero.clone()
    if method == "qat":
        space.scale = scale.clone()
        space.tracked_max, space.tracked_min = scale * (space.qmax - zero), scale * (space.qmin - zero)
        return
    wrapper, name = space._wrapper, space._scale_name
    setattr(wrapper, name, nn.Parameter(scale.flatten().log()))
    parametrize.register_parametrization(wrapper, name, _ExpParametrization(tuple(scale.shape)), unsafe=True)


class _ExpParametrization(nn.Module):
    """A scale computed from its logarithm [C], in the scale's own shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, logarithm: Tensor) -> Tensor:
        return logarithm.exp().reshape(self.shape)


def _convert(graph: fx.GraphModule, modules: _QuantizedModules, learned: Any) -> None:
    """Put frozen modules back, with the trained values."""
    grids = {
        name: _converted_fake_quantize(modules.fake_quantizers[name], learned[name]["_output_0"], name)
        for name in modules.taps.values()
    }
    for name, first in modules.taps.items():
        graph.set_submodule(name, copy.deepcopy(grids[first]))
    for name in modules.layers:
        layer, scale = graph.get_submodule(name), learned[name]["weight"]["scale"].detach().flatten()
        input_scale = grids[modules.taps[modules.input_quantizers[name]]].scale
        frozen = QuantizedLayer(layer, input_scale=input_scale, weight_scale=_check_positive(scale, name))  # type: ignore[arg-type]
        graph.set_submodule(name, frozen)
    for name, cast in modules.casts.items():
        graph.set_submodule(name, cast)
    graph.recompile()


def _converted_fake_quantize(old: FakeQuantize, learned: Any, name: str) -> FakeQuantize:
    scale = float(_check_positive(learned["scale"].detach(), name))
    zero = round(float(learned["zero_point"]))
    if learned["quant_dtype"] == "int8" and not old.signed:
        zero = 128  # int8 level 0 on the uint8 grid of the file
    return FakeQuantize(scale=scale, zero_point=zero, signed=old.signed, grid_group=old.grid_group)


def _check_positive(scale: Tensor, name: str) -> Tensor:
    if not bool(((scale > 0) & torch.isfinite(scale)).all()):
        raise TrainError(
            f"scales must stay positive, but that of {name!r} became {float(scale.min()):g}; lower the learning rate"
        )
    return scale
