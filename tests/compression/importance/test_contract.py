"""Contract of the channel criteria, run over every member of the family."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from nas import registry
from nas.compression.compressors.prune_structured import transfer_channels
from nas.compression.pruning.channel_groups import trace_channel_groups
from nas.compression.pruning.criterion import ChannelCriterion, ChannelScores
from nas.compression.pruning.group_importance import bind_criterion
from nas.errors import MissingPackageError
from tests.random_nets import SHAPE, SPACES, RandomNet, context_of, pictures, trained_net

CRITERIA = [registry.load("importance", name) for name in registry.names("importance")]

pytestmark = pytest.mark.parametrize("criterion", CRITERIA, ids=lambda criterion: criterion.name)


def layers_of(net: nn.Module) -> dict[str, nn.Module]:
    return {layer.name: layer.module for layer in trace_channel_groups(net, input_channels=SHAPE[0]).layers}


def scored(
    criterion: ChannelCriterion, net: nn.Module, layers: dict[str, nn.Module]
) -> tuple[ChannelScores, ChannelScores]:
    context = context_of(images=32)
    try:
        return criterion.score(net, layers, context), criterion.score_inputs(net, layers, context)
    except MissingPackageError as error:
        pytest.skip(str(error))


def test_a_member_is_named_after_its_file(criterion: ChannelCriterion) -> None:
    assert registry.load("importance", criterion.name) is criterion


@pytest.mark.parametrize("space_name", SPACES)
def test_scores_are_finite_numbers_per_channel(criterion: ChannelCriterion, space_name: str) -> None:
    sample = trained_net(space_name, seed=1, attention="se")
    layers = {layer.name: layer for layer in trace_channel_groups(sample.net, input_channels=SHAPE[0]).layers}
    written, read = scored(criterion, sample.net, {name: layer.module for name, layer in layers.items()})
    assert written or read
    for scores, channels in ((written, "output_ids"), (read, "input_ids")):
        assert set(scores) <= set(layers)
        for name, values in scores.items():
            assert values.shape == (len(getattr(layers[name], channels)),)
            assert values.dtype == np.float64
            assert np.isfinite(values).all()
            assert (values >= 0).all()
    assert any(values.std() > 1e-3 * values.mean() > 0 for values in (*written.values(), *read.values())), (
        "channels must differ in importance"
    )


def test_the_net_is_not_changed_and_scores_repeat(criterion: ChannelCriterion) -> None:
    sample = trained_net("plain", seed=1, attention="se")
    before = copy.deepcopy(sample.net.state_dict())
    grads = {name: p.grad.clone() for name, p in sample.net.named_parameters() if p.grad is not None}
    first, again = (scored(criterion, sample.net, layers_of(sample.net)) for _ in range(2))
    for part in (0, 1):
        for name, values in first[part].items():
            np.testing.assert_allclose(values, again[part][name], rtol=1e-6, atol=0)
    assert not sample.net.training
    assert all(torch.equal(p.grad, grads[name]) for name, p in sample.net.named_parameters() if p.grad is not None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in sample.net.state_dict().items())


def test_scores_are_equivariant_to_channel_order(criterion: ChannelCriterion) -> None:
    """Permuting the channels of a net permutes their scores."""
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    with torch.no_grad():
        net[0].weight.mul_(50 / 127.5 / (1 + torch.arange(6.0))[:, None, None, None])  # type: ignore[operator,union-attr]
        net[1].weight.copy_(torch.rand(6) + 0.5)  # type: ignore[operator,union-attr]
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    other = copy.deepcopy(net)
    for i in (0, 1):
        other[i].load_state_dict({k: t[order] if t.ndim else t for k, t in net[i].state_dict().items()})
    other[3].weight = nn.Parameter(net[3].weight[:, order].detach())  # type: ignore[index,union-attr]
    here, there = (scored(criterion, each, layers_of(each)) for each in (net, other))
    for part, names in ((0, {"0", "1"}), (1, {"3"})):
        for name in names & set(here[part]):
            np.testing.assert_allclose(there[part][name], here[part][name][order.numpy()], rtol=2e-3)


def test_a_net_can_be_pruned_by_it(criterion: ChannelCriterion) -> None:
    sample: RandomNet = trained_net("darts", seed=1, attention="se")
    slim = sample.with_widths(dict.fromkeys(sample.widths, 8))
    try:
        transfer_channels(
            sample.net, slim, input_shape=SHAPE, score=bind_criterion(criterion.name, sample.net, context_of(images=32))
        )
    except MissingPackageError as error:
        pytest.skip(str(error))
    with torch.no_grad():
        assert slim(torch.from_numpy(pictures(2, seed=0)).float()).isfinite().all()
