"""Structured pruning against a closed form, and against torch-pruning where that supports the net."""

import copy
import warnings
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from torch import nn

from nas import registry
from nas.candidate import SPARSITIES
from nas.compression.compressors.prune_structured import COMPRESSOR, _select_removed, _target_widths, transfer_channels
from nas.compression.pruning.channel_groups import ChannelGroups, trace_channel_groups
from nas.compression.pruning.group_importance import bind_criterion, group_importance
from nas.config import CompressionFields
from nas.errors import BuildError, MissingPackageError, UnknownMemberError
from nas.targets.catalog import load_target
from search_spaces._leaf import Add, Concat, Scale
from tests.random_nets import SHAPE, SPACES, context_of, pictures, random_net

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch_pruning as tp


def chain(width: int, *, inner: int | None = None, classes: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, inner or width, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inner or width, classes),
    ).eval()


def fill(wide: nn.Module, slim: nn.Module, criterion: str = "l1") -> None:
    transfer_channels(wide, slim, input_shape=SHAPE, score=bind_criterion(criterion, wide, context_of(images=32)))


def by_size(net: nn.Module, channel_groups: ChannelGroups) -> dict[int, float]:
    return group_importance(
        channel_groups,
        *bind_criterion("l1", net, context_of(images=0))({x.name: x.module for x in channel_groups.layers}),
    )


def halved(widths: dict[str, int]) -> dict[str, int]:
    return dict.fromkeys(widths, 8)


@pytest.mark.parametrize("space_name", SPACES)
@pytest.mark.parametrize("seed", range(4))
def test_pruning_zero_channels_changes_nothing(space_name: str, seed: int) -> None:
    """Closed form: a channel whose weights are all zero adds nothing, so pruning it changes nothing.

    ECA is left out: it mixes neighbouring channels, and pruning changes the neighbours.
    """
    sample = random_net(space_name, seed=seed, attention="se" if seed % 2 else "none")
    wide, slim = copy.deepcopy(sample.net), sample.with_widths(halved(sample.widths))
    channel_groups = trace_channel_groups(wide, input_channels=SHAPE[0])
    gone = _select_removed(channel_groups, _target_widths(channel_groups.layers, slim), by_size(wide, channel_groups))
    assert gone
    with torch.no_grad():
        for layer in channel_groups.layers:
            dead = torch.tensor([int(root) in gone for root in channel_groups.group_ids(layer.output_ids)])
            for tensor in layer.module.state_dict().values():
                if tensor.ndim:
                    tensor[dead] = 0
            if isinstance(layer.module, nn.BatchNorm2d):
                layer.module.running_var[dead] = 1  # type: ignore[index]
    fill(wide, slim)
    pixels = torch.from_numpy(pictures(6, seed=1)).float()
    with torch.no_grad():
        expected = wide(pixels)
        assert expected.std(0).max() > 1e-3
        torch.testing.assert_close(slim(pixels), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", range(40, 44))
def test_torch_pruning_gives_the_same_weights(seed: int) -> None:
    sample = random_net("plain", seed=seed, attention="se" if seed % 2 else "none")
    wide, slim = copy.deepcopy(sample.net), sample.with_widths(halved(sample.widths))
    fill(wide, slim)
    channel_groups = trace_channel_groups(wide, input_channels=SHAPE[0])
    gone = _select_removed(channel_groups, _target_widths(channel_groups.layers, slim), by_size(wide, channel_groups))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = tp.DependencyGraph().build_dependency(wide, torch.rand(1, *SHAPE))
        for layer in channel_groups.layers:
            if isinstance(layer.module, nn.Conv2d) and layer.module.out_channels == len(layer.output_ids):
                dead = [i for i, root in enumerate(channel_groups.group_ids(layer.output_ids)) if int(root) in gone]
                if dead:
                    graph.get_pruning_group(layer.module, tp.prune_conv_out_channels, dead).prune()
    for name, tensor in wide.state_dict().items():
        torch.testing.assert_close(slim.state_dict()[name], tensor, msg=name)


@pytest.mark.parametrize("space_name", SPACES)
@pytest.mark.parametrize("attention", ["se", "eca"])
def test_every_net_fills_a_slim_net_of_any_width(space_name: str, attention: str) -> None:
    for seed in range(50, 53):
        sample = random_net(space_name, seed=seed, attention=attention)
        widths = {stage: (8, 16, w)[(seed + i) % 3] for i, (stage, w) in enumerate(sample.widths.items())}
        slim = sample.with_widths(widths)
        fill(sample.net, slim)
        with torch.no_grad():
            assert slim(torch.from_numpy(pictures(2, seed=0)).float()).isfinite().all()


def test_equal_widths_copy_the_net() -> None:
    sample = random_net("darts", seed=60)
    copied = sample.with_widths({})
    fill(sample.net, copied)
    for name, tensor in sample.net.state_dict().items():
        assert torch.equal(copied.state_dict()[name], tensor), name


def test_the_channels_with_the_largest_weights_are_kept_in_order() -> None:
    wide, slim = chain(6), chain(3)
    with torch.no_grad():
        for layer in (wide[0], wide[3]):
            layer.weight.copy_(torch.ones_like(layer.weight))  # type: ignore[union-attr,operator,arg-type]
        wide[0].weight.mul_(torch.tensor([1, 9, 2, 8, 7, 3.0])[:, None, None, None])  # type: ignore[operator,union-attr]
    fill(wide, slim)
    assert slim[0].weight[:, 0, 0, 0].tolist() == [9, 8, 7]  # type: ignore[index,union-attr]


def test_importance_does_not_depend_on_a_layers_scale() -> None:
    wide = chain(6)
    before = by_size(wide, trace_channel_groups(wide, input_channels=1))
    with torch.no_grad():
        wide[3].weight.mul_(100)  # type: ignore[operator,union-attr]
    assert by_size(wide, trace_channel_groups(wide, input_channels=1)) == pytest.approx(before, rel=1e-5)


def test_channels_without_a_score_are_ranked_by_l1() -> None:
    """`bn_scale` has no score for the second convolution, which has no norm."""
    wide, slim = chain(4), chain(2)
    with torch.no_grad():
        wide[1].weight.copy_(torch.tensor([1.0, 4, 2, 3]))  # type: ignore[operator,union-attr]
        wide[3].weight.copy_(torch.tensor([5.0, 1, 1, 9])[:, None, None, None].expand(4, 4, 1, 1))  # type: ignore[operator,union-attr]
        wide[6].weight.fill_(1)  # type: ignore[operator,union-attr]
    fill(wide, slim, "bn_scale")
    assert slim[1].weight.tolist() == [4, 3]  # type: ignore[operator,union-attr]
    assert slim[3].weight[:, 0, 0, 0].tolist() == [5, 9]  # type: ignore[index,union-attr]


def test_the_gene_selects_the_criterion() -> None:
    """The criteria disagree on purpose: each candidate keeps the channels that its own criterion prefers."""
    wide = chain(4)
    with torch.no_grad():
        wide[0].weight.copy_(torch.tensor([50.0, 50, 1, 1])[:, None, None, None].expand(4, 1, 3, 3))  # type: ignore[operator,union-attr]
        wide[1].weight.copy_(torch.tensor([1.0, 1, 1.5, 1.5]))  # type: ignore[operator,union-attr]
        wide[3].weight.copy_(torch.ones(4, 4, 1, 1))  # type: ignore[operator,union-attr]
    for criterion, scales in (("l1", [1, 1]), ("bn_scale", [1.5, 1.5])):
        slim = chain(2, inner=4)
        settled = COMPRESSOR.effective_settings(
            {"importance": criterion}, context_of(widths={"a": 4}, pruned={"a": 2}).candidate
        )
        assert settled == ({} if criterion == "l1" else {"importance": criterion})
        COMPRESSOR.prune(wide, slim, context_of(images=0, settings=settled))
        assert slim[1].weight.tolist() == scales  # type: ignore[operator,union-attr]


def test_a_search_chooses_from_the_named_criteria_and_steps() -> None:
    member = COMPRESSOR.configured(CompressionFields(importance=("taylor", "l2"), sparsity_step=0.125))
    shares, criterion = member.choices(("a",), load_target("cpu"))
    assert (shares.name, shares.options) == ("sparsity.a", tuple(i / 8 for i in range(8)))
    assert (criterion.name, criterion.options) == ("importance", ("taylor", "l2"))
    assert member.initial_settings(("a",), load_target("cpu")) == ({"sparsity.a": 0.0, "importance": "taylor"},)


def test_the_only_criterion_is_used_without_a_gene() -> None:
    member = COMPRESSOR.configured(CompressionFields(importance=("bn_scale",)))
    assert [choice.name for choice in member.choices(("a",), load_target("cpu"))] == ["sparsity.a"]
    assert member.initial_settings(("a",), load_target("cpu")) == ({"sparsity.a": 0.0},)
    candidate = context_of(widths={"a": 4}, pruned={"a": 2}).candidate
    assert member.effective_settings({}, candidate) == {"importance": "bn_scale"}


def test_the_default_options_are_those_of_the_configuration() -> None:
    assert COMPRESSOR.configured(CompressionFields()) is COMPRESSOR
    assert COMPRESSOR.choices(("a",), load_target("cpu"))[0].options == SPARSITIES


def test_an_unknown_criterion_is_rejected_before_the_search() -> None:
    with pytest.raises(UnknownMemberError, match=r"importance criterion must be one of bn_scale, .*, but got 'l3'"):
        COMPRESSOR.configured(CompressionFields(importance=("l3",)))


@pytest.mark.parametrize("name", [name for name in registry.names("importance") if name.startswith("nni_")])
def test_a_criterion_of_nni_is_rejected_before_the_search_where_nni_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("nas.compression.nni.adapter.version", absent)
    with pytest.raises(MissingPackageError, match=r"this needs NNI 3\.0, which is not installed; type: pip install"):
        COMPRESSOR.configured(CompressionFields(importance=("l1", name)))


def test_without_pruning_the_criterion_has_no_effect() -> None:
    candidate = context_of(widths={"a": 4}, pruned={"a": 4}).candidate
    assert COMPRESSOR.effective_settings({"importance": "taylor"}, candidate) == {}


class Spare(nn.Module):
    """A net with a layer that never runs, and a layer under two names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last, self.spare = nn.Conv2d(1, width, 1), nn.Conv2d(width, 2, 1), nn.Linear(3, 3)
        self.alias = self.first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(self.first(x))
        return result


def test_layers_that_never_run_keep_their_weights() -> None:
    wide, slim = Spare(4), Spare(2)
    fill(wide, slim)
    assert torch.equal(slim.spare.weight, wide.spare.weight)
    assert slim.alias is slim.first
    assert {row.item() for row in slim.alias.weight} <= {row.item() for row in wide.first.weight}


def test_groups_of_two_channels_are_removed_together() -> None:
    channel_groups = trace_channel_groups(
        nn.Sequential(nn.Conv2d(1, 8, 1), nn.Conv2d(8, 4, 3, groups=4)), input_channels=1
    )
    first, second = channel_groups.layers
    assert channel_groups.group_ids(first.output_ids).reshape(4, 2).tolist() == [
        [c, c] for c in channel_groups.group_ids(second.output_ids)
    ]


def test_a_wider_net_is_rejected() -> None:
    with pytest.raises(BuildError, match="must not grow, but '0' has 4 channels in the wide net and 6"):
        fill(chain(4), chain(6))


def test_a_net_with_other_layers_is_rejected() -> None:
    with pytest.raises(BuildError, match="the wide net's layers, but '1' differs"):
        fill(chain(4), nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()))


def test_weights_in_only_one_net_are_rejected() -> None:
    slim = chain(2)
    slim.append(nn.PReLU())
    with pytest.raises(BuildError, match=r"the same tensors, but only one of them has '7\.weight'"):
        fill(chain(4), slim)


def test_another_shape_is_rejected() -> None:
    slim = chain(2)
    slim[0] = nn.Conv2d(1, 2, 5, bias=False)
    with pytest.raises(BuildError, match=r"layer '0.weight' the shape \[2, 1, 5, 5\], but gave \[2, 1, 3, 3\]"):
        fill(chain(4), slim)


class Joined(nn.Module):
    """Two convolutions whose maps meet in a leaf module."""

    def __init__(self, left: int, right: int, joint: nn.Module) -> None:
        super().__init__()
        self.left, self.right, self.joint = nn.Conv2d(1, left, 1), nn.Conv2d(1, right, 1), joint

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined: torch.Tensor = self.joint(self.left(x), self.right(x))
        return joined


def test_coupled_layers_must_keep_equally_many() -> None:
    def net(left: int, right: int) -> nn.Module:
        return nn.Sequential(Joined(left, right, Add()), nn.Conv2d(left, 2, 1))

    with pytest.raises(
        BuildError, match=r"layer '0.right' must keep 2 of 4 channels, but the layers coupled with it leave 3"
    ):
        fill(net(4, 4), net(3, 2))


def test_maps_that_cannot_be_added_are_rejected() -> None:
    with pytest.raises(BuildError, match="equally many channels, but got 4 and 3"):
        trace_channel_groups(Joined(4, 3, Scale()), input_channels=1)


def test_a_layer_must_read_what_reaches_it() -> None:
    with pytest.raises(BuildError, match="layer '1' must read the 6 channels it was built for, but 7 reach it"):
        trace_channel_groups(nn.Sequential(Joined(4, 3, Concat()), nn.Conv2d(6, 2, 1)), input_channels=1)
