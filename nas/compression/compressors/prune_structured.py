"""Structured pruning: whole channels are removed, so every runtime gets faster and widths stay on the target's grid.

The gene `importance` names the criterion that scores the channels. Each layer's scores are divided by their mean, so
that no layer outweighs the others, and summed over all layers whose channels must be removed together (the groups of
DepGraph, Fang et al. 2023, https://arxiv.org/abs/2301.12900). The number of channels to keep is not decided here: the
slim net was built with the widths that follow from the genes.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.candidate import SPARSITIES, Candidate
from nas.compression.base import CompressionContext, Compressor
from nas.compression.pruning.channel_groups import ChannelGroups, CoupledLayer, trace_channel_groups
from nas.compression.pruning.group_importance import ScoreFunction, bind_criterion, group_importance, l1_scores
from nas.compression.pruning.slicing import (
    channel_segments,
    kept_per_segment,
    output_width,
    sliced_tensors,
)
from nas.config import CompressionFields
from nas.errors import BuildError
from search_spaces._base import Choice, Value

IMPORTANCE_GENE, DEFAULT_CRITERION = "importance", "l1"
CRITERIA = CompressionFields().importance
"""Criteria that a search chooses from by default; `--importance` names others."""


class PruneStructured(Compressor):
    """Genes `sparsity.<stage>`, the share of a stage's channels to remove, and `importance`, the criterion.

    Args:
        criteria: criteria that a search chooses from. There is no gene `importance` where there is only one.
        sparsities: shares that a search chooses from, ascending from 0.
    """

    name = "prune_structured"

    def __init__(self, *, criteria: tuple[str, ...] = CRITERIA, sparsities: tuple[float, ...] = SPARSITIES) -> None:
        self.criteria, self.sparsities = criteria, sparsities
        self._default = DEFAULT_CRITERION if DEFAULT_CRITERION in criteria else criteria[0]

    def configured(self, fields: CompressionFields) -> "PruneStructured":
        """The member of these criteria and of all multiples of this step.

        Raises:
            UnknownMemberError: there is no such criterion.
            MissingPackageError: a criterion needs an optional package that is not installed.
        """
        for word in fields.importance:
            registry.load("importance", word).check_available()
        sparsities = sparsity_options(fields.sparsity_step)
        if (fields.importance, sparsities) == (self.criteria, self.sparsities):
            return self
        return PruneStructured(criteria=fields.importance, sparsities=sparsities)

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """On every target, one gene per stage and one criterion for all stages."""
        shares = tuple(Choice(name=f"sparsity.{stage}", options=self.sparsities) for stage in stages)
        return (*shares, Choice(name=IMPORTANCE_GENE, options=self.criteria)) if len(self.criteria) > 1 else shares

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """Nothing removed."""
        criterion = {IMPORTANCE_GENE: self._default} if len(self.criteria) > 1 else {}
        return ({**{f"sparsity.{stage}": 0.0 for stage in stages}, **criterion},)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The criterion, where channels are removed and it is not `DEFAULT_CRITERION`."""
        # Old records leave `l1` out, so a setting that is missing means `l1` whatever the search chooses from.
        criterion = configuration.get(IMPORTANCE_GENE, self._default)
        return {IMPORTANCE_GENE: criterion} if candidate.is_pruned and criterion != DEFAULT_CRITERION else {}

    def changes_shape(self, candidate: Candidate) -> bool:
        """Whether any channel is removed."""
        return candidate.is_pruned

    def prune(self, wide: nn.Module, slim: nn.Module, context: CompressionContext) -> None:
        """Fill the slim net with the most important channels of the wide net; see `transfer_channels`.

        Raises:
            BuildError: the slim net is not a narrower form of the wide net, or the criterion cannot be computed.
            UnknownMemberError: the gene names a criterion that does not exist.
        """
        criterion = str(context.candidate.settings.get(IMPORTANCE_GENE, DEFAULT_CRITERION))
        transfer_channels(
            wide, slim, input_shape=context.input_shape, score=bind_criterion(criterion, wide, context),
            kept=context.kept_layers,
        )  # fmt: skip


def sparsity_options(step: float) -> tuple[float, ...]:
    """The multiples of a step that divides 1, from 0 to below 1.

    Examples:
        >>> sparsity_options(0.25)
        (0.0, 0.25, 0.5, 0.75)
    """
    count = round(1 / step)
    return tuple(i / count for i in range(count))


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
