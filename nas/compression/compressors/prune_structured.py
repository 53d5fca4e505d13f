"""Structured pruning: whole channels are removed, so every runtime gets faster and widths stay on the target's grid.

The gene `importance` names the criterion that scores the channels. Each layer's scores are divided by their mean, so
that no layer outweighs the others, and summed over all layers whose channels must be removed together (the groups of
DepGraph, Fang et al. 2023, https://arxiv.org/abs/2301.12900). The number of channels to keep is not decided here: the
slim net was built with the widths that follow from the genes.
"""

from collections.abc import Callable, Collection, Mapping

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
"""Layers by name to the scores of the channels that each layer writes and of those that it reads."""

CRITERIA = ("bn_scale", "l1", "l2", "similarity", "taylor")
"""Criteria that a search chooses from; other members of the family can be selected by name."""
DEFAULT_CRITERION = "l1"


class PruneStructured(Compressor):
    """Genes `sparsity.<stage>`, the share of a stage's channels to remove, and `importance`, the criterion."""

    name = "prune_structured"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """On every target, one gene per stage and one criterion for all stages."""
        shares = tuple(Choice(name=f"sparsity.{stage}", options=SPARSITIES) for stage in stages)
        return (*shares, Choice(name="importance", options=CRITERIA))

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """Nothing removed."""
        return ({**{f"sparsity.{stage}": 0.0 for stage in stages}, "importance": DEFAULT_CRITERION},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The criterion, where channels are removed and it is not the default."""
        criterion = configuration.get("importance", DEFAULT_CRITERION)
        return {"importance": criterion} if candidate.is_pruned and criterion != DEFAULT_CRITERION else {}

    def changes_shape(self, candidate: Candidate) -> bool:
        """Whether any channel is removed."""
        return candidate.is_pruned

    def prune(self, wide: nn.Module, slim: nn.Module, context: CompressionContext) -> None:
        """Fill the slim net with the most important channels of the wide net; see `transfer_channels`.

        Raises:
            BuildError: the slim net is not a narrower form of the wide net, or the criterion cannot be computed.
            UnknownMemberError: the gene names a criterion that does not exist.
        """
        criterion = str(context.candidate.settings.get("importance", DEFAULT_CRITERION))
        transfer_channels(
            wide, slim, input_shape=context.input_shape, score=bind_criterion(criterion, wide, context),
            kept=context.kept_layers,
        )  # fmt: skip


def bind_criterion(name: str, net: nn.Module, context: CompressionContext) -> ScoreFunction:
    """A criterion of the family `importance`, bound to a net and its context.

    Raises:
        UnknownMemberError: the family has no criterion of this name.
    """
    criterion = registry.load("importance", name)

    def score(layers: Mapping[str, nn.Module]) -> tuple[ChannelScores, ChannelScores]:
        return criterion.score(net, layers, context), criterion.score_inputs(net, layers, context)

    return score


def l1_scores(layers: Mapping[str, nn.Module]) -> tuple[ChannelScores, ChannelScores]:
    """The scores of the criterion `l1`, which needs nothing but the layers."""
    return output_channel_norms(layers, order=1), input_channel_norms(layers, order=1)


def transfer_channels(
    wide: nn.Module, slim: nn.Module, *, input_shape: tuple[int, int, int], score: ScoreFunction = l1_scores,
    kept: Collection[str] = (),
) -> None:  # fmt: skip
    """Fill the slim net, in place, with the wide net's most important channels; their order is kept.

    Args:
        wide: a trained net; it is not changed.
        slim: a net with the same modules under the same names and as many channels or fewer.
        input_shape: (C, H, W) of the images.
        score: scores the wide net's channels; channels that it leaves out are ranked by their L1 norm.
        kept: names of layers that lose no channel; the slim net has them in full.

    Raises:
        BuildError: the slim net is not a narrower form of the wide net; the message names the first layer that does not
            fit.
    """
    groups = trace_channel_groups(wide, input_channels=input_shape[0], kept=kept)
    targets = _target_widths(groups.layers, slim)
    layers = {layer.name: layer.module for layer in groups.layers}
    # A criterion may leave channels out (a conv without a norm has no bn_scale): L1 scores fill those gaps.
    scores = group_importance(groups, *l1_scores(layers)) | group_importance(groups, *score(layers))
    removed = _select_removed(groups, targets, scores)
    # Layers that the trace never reached keep their tensors as they are.
    state = {name: tensor.detach().cpu() for name, tensor in _state_tensors(wide).items()}
    for layer in groups.layers:
        tensors = sliced_tensors(layer, groups, removed)
        state.update({f"{layer.name}.{key}": tensor.cpu() for key, tensor in tensors.items()})
    _copy_state(slim, state)


def group_importance(
    channel_groups: ChannelGroups, output_scores: ChannelScores, input_scores: ChannelScores
) -> dict[int, float]:
    """The importance of each group of channels that has a score; higher means keep.

    Args:
        channel_groups: the groups of a net.
        output_scores: layer name to the scores of the channels that it writes.
        input_scores: layer name to the scores of the channels that it reads.
    """
    total: dict[int, float] = {}
    for layer in channel_groups.layers:
        for ids, scores in (
            (layer.output_ids, output_scores.get(layer.name)),
            (layer.input_ids, input_scores.get(layer.name)),
        ):
            if ids is None or scores is None:
                continue
            # Relative scores: a layer's scale is arbitrary where a norm follows it. All-zero layers add nothing.
            relative = scores / (float(scores.mean()) or 1.0)
            for root, value in zip(channel_groups.group_ids(ids), relative, strict=True):
                total[int(root)] = total.get(int(root), 0.0) + float(value)
    return total


def _target_widths(layers: list[CoupledLayer], slim: nn.Module) -> dict[str, int]:
    modules = dict(slim.named_modules())
    targets: dict[str, int] = {}
    for layer in layers:
        slim_layer = modules.get(layer.name)
        if type(slim_layer) is not type(layer.module):
            raise BuildError(f"the slim net must have the wide net's layers, but {layer.name!r} differs")
        targets[layer.name] = output_width(slim_layer)
        if targets[layer.name] > len(layer.output_ids):
            raise BuildError(
                f"a pruned layer must not grow, but {layer.name!r} has {len(layer.output_ids)} channels in the wide "
                f"net and {targets[layer.name]} in the slim one"
            )
    return targets


def _select_removed(
    channel_groups: ChannelGroups, target_widths: Mapping[str, int], scores: Mapping[int, float]
) -> set[int]:
    """The groups to remove: in each segment those with the lowest scores; among ties, the last ones."""
    segments, kept_counts = channel_segments(channel_groups), kept_per_segment(channel_groups, target_widths)
    removed: set[int] = set()
    for segment, group_ids in segments.items():
        ranked = sorted(group_ids, key=lambda root: -scores.get(root, 0.0))  # stable: ties keep their order
        removed.update(ranked[kept_counts[segment] :])
    for layer in channel_groups.layers:
        n_kept = sum(int(root) not in removed for root in channel_groups.group_ids(layer.output_ids))
        if n_kept != target_widths[layer.name]:
            raise BuildError(
                f"layer {layer.name!r} must keep {target_widths[layer.name]} of {len(layer.output_ids)} channels, but "
                f"the layers coupled with it leave {n_kept}"
            )
    return removed


def _copy_state(slim: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = _state_tensors(slim)
    for name in sorted(set(own) ^ set(state)):
        raise BuildError(f"wide and slim net must have the same tensors, but only one of them has {name!r}")
    with torch.no_grad():
        for name, tensor in state.items():
            if own[name].shape != tensor.shape:
                raise BuildError(
                    f"pruning must give layer {name!r} the shape {list(own[name].shape)}, but gave {list(tensor.shape)}"
                )
            own[name].copy_(tensor)


def _state_tensors(net: nn.Module) -> dict[str, Tensor]:
    """The tensors of a checkpoint; each has one name, also where modules share it."""
    saved_names = net.state_dict().keys()
    tensors: dict[str, Tensor] = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {name: tensor for name, tensor in tensors.items() if name in saved_names}


COMPRESSOR = PruneStructured()
