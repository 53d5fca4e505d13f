"""Low-bit weights by NNI's DoReFa and BNN quantisers: trained through their rounding, then left on their levels.

DoReFa (Zhou et al. 2016, https://arxiv.org/abs/1606.06160) squashes a layer's weights by tanh and rounds them to 15
levels, -7/7 to 7/7. BNN (Courbariaux et al. 2016, https://arxiv.org/abs/1602.02830) takes their signs. Neither has a
scale, so only convolutions whose output goes to a batch norm alone are quantised: the norm removes any scale. Depthwise
convolutions are left out, because they hold few weights and lose much accuracy. Different from the papers: activations
and gradients stay in floating point.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nas.compression.nni import adapter
from nas.compression.quantization.low_bit import BINARY, INT4, LowBitLayer
from nas.onnx_export.folding import module_nodes, module_of, trace

MAX_LEVEL = {"dorefa": 7, "bnn": 1}
"""Highest level of each method."""
LEVEL_TOLERANCE = 1e-4
"""Distance from a level, in levels, that counts as float32 rounding."""
_NNI_QUANTIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dorefa": ("DoReFaQuantizer", {"quant_dtype": "int4", "quant_scheme": "affine"}),
    "bnn": ("BNNQuantizer", {"quant_dtype": None}),
}


def convs_before_batch_norm(net: nn.Module) -> tuple[str, ...]:
    """Names of the convolutions, other than grouped ones, whose output only a batch norm reads.

    Raises:
        ExportError: the net cannot be traced.
    """
    graph = trace(net)
    return tuple(
        str(node.target)
        for node in module_nodes(graph)
        if isinstance(conv := module_of(graph, node), nn.Conv2d)
        and conv.groups == 1
        and all(u.op == "call_module" and isinstance(module_of(graph, u), nn.BatchNorm2d) for u in node.users)
    )


@contextmanager
def nni_low_bit_training(net: nn.Module, layers: Sequence[str], method: str) -> Iterator[Callable[[float], None]]:
    """Context manager in which NNI rounds the weights of layers in each forward pass; afterwards they stay rounded.

    Args:
        net: changed in place.
        layers: names of convolutions.
        method: "dorefa" or "bnn".

    Yields:
        A function to call before each training step.

    Raises:
        MissingPackageError: nni is not installed.
    """
    kind, setting = _NNI_QUANTIZERS[method]
    with torch.no_grad():
        for name in layers:
            weight = net.get_submodule(name).get_parameter("weight")
            weight.copy_(latent_weights(weight, method))
    config = [{"op_names": list(layers), "target_names": ["weight"], **setting}]
    quantizer = getattr(adapter.import_quantization(), kind)(net, config, None)
    spaces = [quantizer._target_spaces[name]["weight"] for name in layers]

    def before_step(progress: float) -> None:
        if method == "bnn":
            for space in spaces:  # as in the paper: larger weights would only take longer to change their sign
                space.target.data.clamp_(-1, 1)

    try:
        with adapter.suppress_deprecation_warnings():
            yield before_step
    finally:
        with torch.no_grad():
            before_step(1.0)
            rounded = [space._wrapper.patch_helper("weight", space.target).detach().clone() for space in spaces]
            quantizer.unwrap_model()
            for name, weight in zip(layers, rounded, strict=True):
                net.get_submodule(name).get_parameter("weight").copy_(weight)


def latent_weights(weight: Tensor, method: str) -> Tensor:
    """Trainable weights that round to the given ones if those are already rounded; otherwise the given weights.

    A rounded weight no longer tells how close it was to the next level. Its latent weight gets the magnitude of an
    untrained one, from which training can move it.
    """
    if not is_quantized(weight, method):
        return weight
    size = torch.tensor(weight[0].numel() ** -0.5)
    return weight * size if method == "bnn" else torch.atanh(weight * torch.tanh(size))


def is_quantized(weight: Tensor, method: str) -> bool:
    """Whether the weights lie on the method's levels."""
    if method == "bnn":
        return bool((weight.abs() == 1).all())
    levels = weight * MAX_LEVEL[method]
    return bool(((levels - levels.round()).abs() < 1e-5).all()) and float(levels.abs().max()) == MAX_LEVEL[method]


def to_low_bit_layer(conv: nn.Conv2d, method: str) -> LowBitLayer | None:
    """The convolution with its weights as int4 levels, or None where they do not lie on the method's levels.

    Args:
        conv: may have any scale on each output channel, as a folded batch norm leaves it.
        method: "dorefa" or "bnn".
    """
    grid = coarsest_grid(conv.weight, max_level=MAX_LEVEL[method])
    if grid is None:
        return None
    layer = LowBitLayer(conv, bits=BINARY if method == "bnn" else INT4, is_float16=False)
    for key, values in zip(("levels", "step"), grid, strict=True):
        layer.get_buffer(key).copy_(values)
    return layer


def coarsest_grid(weight: Tensor, *, max_level: int) -> tuple[Tensor, Tensor] | None:
    """The coarsest grid around 0 that holds all weights of each output channel, or None where there is none.

    Args:
        weight: [out, ...].
        max_level: largest level that a channel may need.

    Returns:
        Levels (whole numbers in -max_level..max_level, in the weight's shape) and the step of each channel [out].
    """
    rows = weight.detach().double().flatten(1)  # [out, numbers]
    top = rows.abs().amax(1).clamp(min=1e-30)
    step = torch.zeros_like(top)
    for count in range(max_level, 0, -1):  # descending: the coarsest grid that fits overwrites finer ones
        levels = rows / (top / count)[:, None]
        fits = ((levels - levels.round()).abs() < LEVEL_TOLERANCE).all(1)
        step = torch.where(fits, top / count, step)
    if bool((step == 0).any()):
        return None
    return (rows / step[:, None]).round().reshape(weight.shape), step
