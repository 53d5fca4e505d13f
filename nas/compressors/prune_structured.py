"""Structured pruning: whole channels leave, so that every runtime is faster, and widths stay on the target's grid.

A channel's importance is its group's magnitude (Fang et al. 2023, https://arxiv.org/abs/2301.12900): the L1 norms of
all weights that would leave with it, each layer's divided by their mean, so that no layer outvotes the others. How many
channels stay is not decided here: the slim net was built with the widths that the genes leave.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from hw_profiles._base import HardwareProfile
from nas.candidate import SPARSITIES, Candidate
from nas.compressors._base import Compressor, Context
from nas.compressors._channels import Coupling, Ids, Layer, couple
from nas.compressors._narrow import kept, width_of
from nas.errors import BuildError
from search_spaces._base import Choice, Value


class PruneStructured(Compressor):
    """Genes `sparsity.<stage>`: the share of a stage's channels that leaves."""

    name = "prune_structured"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene per stage, on every target."""
        return tuple(Choice(name=f"sparsity.{stage}", options=SPARSITIES) for stage in stages)

    def seeds(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """Nothing removed."""
        return ({f"sparsity.{stage}": 0.0 for stage in stages},)

    def reshapes(self, candidate: Candidate) -> bool:
        """Whether any channel leaves."""
        return candidate.is_pruned

    def on_model(self, wide: nn.Module, slim: nn.Module, context: Context) -> None:
        """See `transfer`."""
        transfer(wide, slim, input_shape=context.input_shape)


def transfer(wide: nn.Module, slim: nn.Module, *, input_shape: tuple[int, int, int]) -> None:
    """Fill the slim net, in place, with the wide net's most important channels; their order is kept.

    Args:
        wide: a trained net; it is not changed.
        slim: the same modules under the same names, with as many channels or fewer.
        input_shape: (C, H, W) of the images.

    Raises:
        BuildError: the slim net is no narrower form of the wide one; the first layer that does not fit is named.
    """
    coupling = couple(wide, channels=input_shape[0])
    targets = _targets(coupling.layers, slim)
    gone = _gone(coupling, targets)
    state: dict[str, Tensor] = {}
    for layer in coupling.layers:
        state.update({f"{layer.name}.{key}": part.cpu() for key, part in kept(layer, coupling, gone).items()})
    _load(slim, state)


def importance(coupling: Coupling) -> dict[int, float]:
    """The importance of each class of channels: higher stays."""
    total: dict[int, float] = {}
    for layer in coupling.layers:
        for ids, norms in _norms(layer):
            shares = norms / max(float(norms.mean()), 1e-12)
            for root, share in zip(coupling.classes(ids), shares, strict=True):
                total[int(root)] = total.get(int(root), 0.0) + float(share)
    return total


def _norms(layer: Layer) -> list[tuple[Ids, npt.NDArray[np.float64]]]:
    weight = layer.module.get_parameter("weight").detach().abs().double()
    rows = (layer.writes, weight.flatten(1).sum(1).numpy() if weight.ndim > 1 else weight.numpy())
    if layer.reads is None:
        return [rows]
    return [rows, (layer.reads, weight.transpose(0, 1).flatten(1).sum(1).numpy())]


def _targets(layers: list[Layer], slim: nn.Module) -> dict[str, int]:
    modules = dict(slim.named_modules())
    targets: dict[str, int] = {}
    for layer in layers:
        twin = modules.get(layer.name)
        if type(twin) is not type(layer.module):
            raise BuildError(f"the slim net must have the wide net's layers, but {layer.name!r} differs")
        targets[layer.name] = width_of(twin)
        if targets[layer.name] > len(layer.writes):
            raise BuildError(
                f"a pruned layer must not grow, but {layer.name!r} has {len(layer.writes)} channels in the wide net "
                f"and {targets[layer.name]} in the slim one"
            )
    return targets


def _gone(coupling: Coupling, targets: Mapping[str, int]) -> set[int]:
    """The classes that leave. Layers that lose nothing decide first, then the others in order of execution."""
    scores = importance(coupling)
    stays: dict[int, bool] = {}
    for layer in sorted(coupling.layers, key=lambda layer: targets[layer.name] < len(layer.writes)):
        classes, sizes = np.unique(coupling.classes(layer.writes), return_counts=True)
        room = targets[layer.name] - sum(int(n) for c, n in zip(classes, sizes, strict=True) if stays.get(int(c)))
        undecided = [(int(c), int(n)) for c, n in zip(classes, sizes, strict=True) if int(c) not in stays]
        for root, size in sorted(undecided, key=lambda found: (-scores[found[0]], found[0])):
            stays[root] = size <= room
            room -= size if stays[root] else 0
        if room != 0:
            raise BuildError(
                f"layer {layer.name!r} must keep {targets[layer.name]} of {len(layer.writes)} channels, but the "
                f"layers coupled with it leave {targets[layer.name] - room}"
            )
    return {root for root, stay in stays.items() if not stay}


def _load(slim: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = slim.state_dict()
    for name in sorted(set(own) ^ set(state)):
        raise BuildError(f"both nets must hold the same weights, but {name!r} is in one only")
    for name, tensor in state.items():
        if own[name].shape != tensor.shape:
            raise BuildError(
                f"pruning must give layer {name!r} the shape {list(own[name].shape)}, but gave {list(tensor.shape)}"
            )
    slim.load_state_dict(dict(state))


COMPRESSOR = PruneStructured()
