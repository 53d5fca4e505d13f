"""Structured pruning: whole channels leave, so that every runtime is faster, and widths stay on the target's grid.

How much a channel matters is up to the criterion that the gene `importance` names. Each layer's scores are divided by
their mean, so that no layer outvotes the others, and added up over all layers whose channels must leave together (the
groups of DepGraph, Fang et al. 2023, https://arxiv.org/abs/2301.12900). How many channels stay is not decided here: the
slim net was built with the widths that the genes leave.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.candidate import SPARSITIES, Candidate
from nas.compression.base import CompressionContext, Compressor
from nas.compression.pruning.channel_groups import ChannelGroups, CoupledLayer, trace_channel_groups
from nas.compression.pruning.criterion import ChannelScores
from nas.compression.pruning.slicing import channel_segments, kept_per_segment, output_width, sliced_tensors
from nas.compression.pruning.weight_norms import input_channel_norms, output_channel_norms
from nas.errors import BuildError
from search_spaces._base import Choice, Value

ScoreFunction = Callable[[Mapping[str, nn.Module]], tuple[ChannelScores, ChannelScores]]
"""Layers by name to the scores of the channels that each writes and reads."""

CRITERIA = ("bn_scale", "l1", "l2", "similarity", "taylor")
"""Those that a search may choose from. Others in the family can be asked for by name."""
DEFAULT_CRITERION = "l1"


class PruneStructured(Compressor):
    """Genes `sparsity.<stage>`, the share of a stage's channels that leaves, and `importance`, which of them."""

    name = "prune_structured"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene per stage and one for all, on every target."""
        shares = tuple(Choice(name=f"sparsity.{stage}", options=SPARSITIES) for stage in stages)
        return (*shares, Choice(name="importance", options=CRITERIA))

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """Nothing removed."""
        return ({**{f"sparsity.{stage}": 0.0 for stage in stages}, "importance": DEFAULT_CRITERION},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The criterion, where channels leave and it is not the default."""
        word = configuration.get("importance", DEFAULT_CRITERION)
        return {"importance": word} if candidate.is_pruned and word != DEFAULT_CRITERION else {}

    def changes_shape(self, candidate: Candidate) -> bool:
        """Whether any channel leaves."""
        return candidate.is_pruned

    def prune(self, wide: nn.Module, slim: nn.Module, context: CompressionContext) -> None:
        """See `transfer`.

        Raises:
            UnknownMemberError: there is no such criterion.
        """
        word = str(context.candidate.settings.get("importance", DEFAULT_CRITERION))
        transfer_channels(wide, slim, input_shape=context.input_shape, score=bind_criterion(word, wide, context))


def bind_criterion(name: str, net: nn.Module, context: CompressionContext) -> ScoreFunction:
    """A criterion of the family `importance`, bound to a net."""
    criterion = registry.load("importance", name)

    def score(layers: Mapping[str, nn.Module]) -> tuple[ChannelScores, ChannelScores]:
        return criterion.score(net, layers, context), criterion.score_inputs(net, layers, context)

    return score


def l1_scores(layers: Mapping[str, nn.Module]) -> tuple[ChannelScores, ChannelScores]:
    """The scores of the criterion `l1`, which looks at nothing but the layers."""
    return output_channel_norms(layers, order=1), input_channel_norms(layers, order=1)


def transfer_channels(
    wide: nn.Module, slim: nn.Module, *, input_shape: tuple[int, int, int], score: ScoreFunction = l1_scores
) -> None:
    """Fill the slim net, in place, with the wide net's most important channels; their order is kept.

    Args:
        wide: a trained net; it is not changed.
        slim: the same modules under the same names, with as many channels or fewer.
        input_shape: (C, H, W) of the images.
        score: of the wide net's channels; those that it leaves out are ranked by `magnitude`.

    Raises:
        BuildError: the slim net is no narrower form of the wide one; the first layer that does not fit is named.
    """
    coupling = trace_channel_groups(wide, input_channels=input_shape[0])
    targets = _target_widths(coupling.layers, slim)
    layers = {layer.name: layer.module for layer in coupling.layers}
    scores = group_importance(coupling, *l1_scores(layers)) | group_importance(coupling, *score(layers))
    gone = _select_removed(coupling, targets, scores)
    state = {
        name: tensor.detach().cpu() for name, tensor in _state_tensors(wide).items()
    }  # layers that never run included
    for layer in coupling.layers:
        state.update({f"{layer.name}.{key}": part.cpu() for key, part in sliced_tensors(layer, coupling, gone).items()})
    _copy_state(slim, state)


def group_importance(
    channel_groups: ChannelGroups, output_scores: ChannelScores, input_scores: ChannelScores
) -> dict[int, float]:
    """The importance of each class of channels that is scored: higher stays.

    Args:
        channel_groups: of a net.
        output_scores: layer name to the scores of the channels that it writes.
        input_scores: the same for those that it reads.
    """
    total: dict[int, float] = {}
    for layer in channel_groups.layers:
        for ids, scores in (
            (layer.output_ids, output_scores.get(layer.name)),
            (layer.input_ids, input_scores.get(layer.name)),
        ):
            if ids is None or scores is None:
                continue
            shares = scores / (float(scores.mean()) or 1.0)
            for root, share in zip(channel_groups.group_ids(ids), shares, strict=True):
                total[int(root)] = total.get(int(root), 0.0) + float(share)
    return total


def _target_widths(layers: list[CoupledLayer], slim: nn.Module) -> dict[str, int]:
    modules = dict(slim.named_modules())
    targets: dict[str, int] = {}
    for layer in layers:
        twin = modules.get(layer.name)
        if type(twin) is not type(layer.module):
            raise BuildError(f"the slim net must have the wide net's layers, but {layer.name!r} differs")
        targets[layer.name] = output_width(twin)
        if targets[layer.name] > len(layer.output_ids):
            raise BuildError(
                f"a pruned layer must not grow, but {layer.name!r} has {len(layer.output_ids)} channels in the wide net "
                f"and {targets[layer.name]} in the slim one"
            )
    return targets


def _select_removed(
    channel_groups: ChannelGroups, target_widths: Mapping[str, int], scores: Mapping[int, float]
) -> set[int]:
    """The classes that leave: of each part, those with the lowest scores; of equals, the last."""
    parts, counts = channel_segments(channel_groups), kept_per_segment(channel_groups, target_widths)
    gone: set[int] = set()
    for signature, classes in parts.items():
        ranked = sorted(classes, key=lambda root: -scores.get(root, 0.0))
        gone.update(ranked[counts[signature] :])
    for layer in channel_groups.layers:
        stay = sum(int(root) not in gone for root in channel_groups.group_ids(layer.output_ids))
        if stay != target_widths[layer.name]:
            raise BuildError(
                f"layer {layer.name!r} must keep {target_widths[layer.name]} of {len(layer.output_ids)} channels, but the "
                f"layers coupled with it leave {stay}"
            )
    return gone


def _copy_state(slim: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = _state_tensors(slim)
    for name in sorted(set(own) ^ set(state)):
        raise BuildError(f"both nets must hold the same weights, but {name!r} is in one only")
    with torch.no_grad():
        for name, tensor in state.items():
            if own[name].shape != tensor.shape:
                raise BuildError(
                    f"pruning must give layer {name!r} the shape {list(own[name].shape)}, but gave {list(tensor.shape)}"
                )
            own[name].copy_(tensor)


def _state_tensors(net: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds, each tensor under one name."""
    kept_names = net.state_dict().keys()
    found: dict[str, Tensor] = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {name: tensor for name, tensor in found.items() if name in kept_names}


COMPRESSOR = PruneStructured()
