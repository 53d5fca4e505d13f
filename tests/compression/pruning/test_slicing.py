"""Sliced nets: closed forms for the widths, and torch-pruning as the reference for coupled layers."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.compression.compressors.prune_structured import transfer_channels
from nas.compression.pruning.channel_groups import trace_channel_groups
from nas.compression.pruning.group_importance import bind_criterion
from nas.compression.pruning.slicing import (
    channel_segments,
    kept_per_segment,
    output_width,
    slice_channels,
    sliced_tensors,
)
from nas.errors import BuildError
from search_spaces._leaf import Add, Concat, Scale
from tests.random_nets import SHAPE, SPACES, context_of, pictures, random_net

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch_pruning as tp


class Net(nn.Module):
    """Layers by name, and a function over them."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def widths_of(net: nn.Module) -> dict[str, int]:
    return {layer.name: output_width(layer.module) for layer in trace_channel_groups(net, input_channels=1).layers}


def residual() -> Net:
    def run(m: Net, x: Tensor) -> Tensor:
        a = m.norm(m.a(x))
        a = m.add(a, m.c(m.gate(m.b(a), m.up(m.down(m.pool(a))))))
        return m.linear(m.flat(m.pool(m.last(a))))

    return Net(
        run, a=nn.Conv2d(1, 8, 3, padding=1), norm=nn.BatchNorm2d(8), b=nn.Conv2d(8, 8, 3, padding=1, groups=8),
        pool=nn.AdaptiveAvgPool2d(1), down=nn.Conv2d(8, 4, 1), up=nn.Conv2d(4, 8, 1), gate=Scale(),
        c=nn.Conv2d(8, 8, 1), add=Add(), last=nn.Conv2d(8, 6, 1), flat=nn.Flatten(), linear=nn.Linear(6, 3),
    )  # fmt: skip


def halves_beside_a_whole() -> Net:
    """A FactorizedReduce added to a convolution; then both, concatenated, through a depthwise layer."""

    def run(m: Net, x: Tensor) -> Tensor:
        both = m.cat(m.left(x), m.right(x))
        total = m.add(m.whole(x), both)
        return m.linear(m.flat(m.pool(m.deep(m.norm(m.join(total, m.extra(x)))))))

    return Net(
        run, left=nn.Conv2d(1, 4, 1), right=nn.Conv2d(1, 8, 1), cat=Concat(), whole=nn.Conv2d(1, 12, 1), add=Add(),
        extra=nn.Conv2d(1, 6, 1), join=Concat(), norm=nn.BatchNorm2d(18), deep=nn.Conv2d(18, 18, 3, groups=18),
        pool=nn.AdaptiveMaxPool2d(1), flat=nn.Flatten(), linear=nn.Linear(18, 3),
    )  # fmt: skip


def outside() -> Net:
    """Features of user-defined models: a flattened map with pixels, dropout, PReLU, then group and batch norms."""

    def run(m: Net, x: Tensor) -> Tensor:
        x = m.each(m.groups(m.a(x)))
        x = m.drop(torch.flatten(m.pool(m.one(m.same(x))), 1))
        return m.out(torch.relu(m.flatnorm(m.hidden(m.norm(x)))))

    return Net(
        run, a=nn.Conv2d(1, 8, 3, padding=1), groups=nn.GroupNorm(4, 8), each=nn.PReLU(8), same=nn.Identity(),
        one=nn.PReLU(), pool=nn.AvgPool2d(16), drop=nn.Dropout(), norm=nn.BatchNorm1d(32), hidden=nn.Linear(32, 10),
        flatnorm=nn.BatchNorm1d(10), out=nn.Linear(10, 3),
    )  # fmt: skip


def asked_of(net: nn.Module) -> dict[str, int]:
    asked: dict[str, int] = {}

    def keep(name: str, width: int) -> int:
        assert name not in asked, "`keep` must be called once per group"
        asked[name] = width
        return width

    slice_channels(net, input_channels=1, keep=keep)
    return asked


@pytest.mark.parametrize(
    ("make", "asked"),
    [
        (residual, {"a": 8, "down": 4, "last": 6}),  # depthwise layer and gate pass on the stream's channels
        (halves_beside_a_whole, {"left": 12, "extra": 6}),
        (outside, {"a": 8, "hidden": 10}),
    ],
)
def test_keep_is_called_once_per_group_with_its_first_layer(make: Callable[[], Net], asked: dict[str, int]) -> None:
    assert asked_of(make().eval()) == asked


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            halves_beside_a_whole,
            {"left": 2, "right": 4, "whole": 6, "extra": 3, "norm": 9, "deep": 9, "linear": 3},
        ),
        (outside, {"a": 4, "groups": 4, "each": 4, "one": 1, "norm": 16, "hidden": 5, "flatnorm": 5, "out": 3}),
    ],
)
def test_half_of_the_channels_are_kept(make: Callable[[], Net], expected: dict[str, int]) -> None:
    slim = slice_channels(make().eval(), input_channels=1, keep=lambda name, width: width // 2)
    assert widths_of(slim) == expected
    with torch.no_grad():
        assert slim(torch.from_numpy(pictures(2, seed=0)).float()).shape == (2, 3)


def test_grouped_channels_are_removed_in_whole_groups() -> None:
    net = nn.Sequential(nn.Conv2d(1, 12, 1), nn.Conv2d(12, 6, 3, groups=3), nn.Conv2d(6, 2, 1))
    assert {widths_of(slice_channels(net, input_channels=1, keep=lambda n, w, k=k: k))["0"] for k in range(1, 7)} == {
        4,
        8,
    }
    slim = slice_channels(net, input_channels=1, keep=lambda name, width: 8)
    assert (slim[1].groups, slim[1].in_channels, slim[1].out_channels) == (2, 8, 4)  # type: ignore[index,union-attr]
    assert slim[1].weight.shape == (4, 4, 3, 3)  # type: ignore[index,union-attr]


def test_one_group_norm_over_all_channels_keeps_them() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 1), nn.GroupNorm(1, 8), nn.Conv2d(8, 2, 1))
    assert widths_of(slice_channels(net, input_channels=1, keep=lambda name, width: 1)) == {"0": 8, "1": 8, "2": 2}


def test_the_image_added_to_a_map_keeps_the_map() -> None:
    net = Net(
        lambda m, x: m.out(m.add(x, m.a(x))),  # type: ignore[operator]
        a=nn.Conv2d(1, 1, 1), add=Add(), out=nn.Conv2d(1, 3, 1),
    )  # fmt: skip
    assert asked_of(net) == {}


def test_the_net_itself_is_not_changed() -> None:
    net = residual().eval()
    before = copy.deepcopy(net.state_dict())
    slice_channels(net, input_channels=1, keep=lambda name, width: 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_an_unsupported_layer_is_named() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ConvTranspose2d(4, 2, 2))
    with pytest.raises(BuildError, match="'1' is a ConvTranspose2d: transposed"):
        slice_channels(net, input_channels=1, keep=lambda name, width: width)


@pytest.mark.parametrize("space_name", SPACES)
@pytest.mark.parametrize("attention", ["none", "se", "eca"])
def test_nets_of_every_space_run_and_can_be_filled_at_random_widths(space_name: str, attention: str) -> None:
    sample = random_net(space_name, seed=3, attention=attention)
    generator = torch.Generator().manual_seed(0)

    def keep(name: str, width: int) -> int:
        return int(torch.randint(1, width + 1, (1,), generator=generator))

    slim = slice_channels(sample.net, input_channels=SHAPE[0], keep=keep)
    transfer_channels(sample.net, slim, input_shape=SHAPE, score=bind_criterion("l1", sample.net, context_of(images=0)))
    with torch.no_grad():
        assert slim(torch.from_numpy(pictures(2, seed=0)).float()).isfinite().all()


def test_a_sliced_plain_net_equals_the_net_that_its_space_builds() -> None:
    sample = random_net("plain", seed=6)
    slim = slice_channels(
        sample.net,
        input_channels=SHAPE[0],
        keep=lambda name, width: width if name.startswith("stem") else min(8, width),
    )
    rebuilt = sample.with_widths(dict.fromkeys(sample.widths, 8))
    assert {k: t.shape for k, t in slim.state_dict().items()} == {k: t.shape for k, t in rebuilt.state_dict().items()}


@given(st.integers(1, 8), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_kept_per_segment_recovers_the_requested_widths(stream: int, last: int, down: int) -> None:
    """`kept_per_segment` recovers the widths that `slice_channels` was asked to keep."""
    wide = residual().eval()
    want = {"a": stream, "last": last, "down": down}
    slim = slice_channels(wide, input_channels=1, keep=lambda name, width: want[name])
    assert {name: widths_of(slim)[name] for name in want} == want
    channel_groups = trace_channel_groups(wide, input_channels=1)
    kept = kept_per_segment(channel_groups, widths_of(slim))
    for part, classes in channel_segments(channel_groups).items():
        assert 1 <= kept[part] <= len(classes)
        for name, count in part:
            assert count == 1
            assert kept[part] == widths_of(slim)[name]


@pytest.mark.parametrize("make", [residual, halves_beside_a_whole])
def test_coupled_layers_match_torch_pruning(make: Callable[[], Net]) -> None:
    """Removing the same groups here and in torch-pruning leaves layers of the same shape with the same weights."""
    net = make().eval()
    channel_groups = trace_channel_groups(net, input_channels=1)
    gone: set[int] = set()
    for classes in channel_segments(channel_groups).values():
        gone.update(classes[1::2])
    theirs = copy.deepcopy(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = tp.DependencyGraph().build_dependency(theirs, torch.rand(1, *SHAPE))
        for layer in channel_groups.layers:
            module = theirs.get_submodule(layer.name)
            dead = [i for i, root in enumerate(channel_groups.group_ids(layer.output_ids)) if int(root) in gone]
            if dead and layer.input_ids is not None and output_width(module) == len(layer.output_ids):
                graph.get_pruning_group(module, tp.prune_conv_out_channels, dead).prune()
    for layer in channel_groups.layers:
        for key, tensor in sliced_tensors(layer, channel_groups, gone).items():
            torch.testing.assert_close(tensor, theirs.get_submodule(layer.name).state_dict()[key], msg=layer.name)


def test_a_flattened_map_is_sliced_as_by_torch_pruning() -> None:
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)).eval()
    slim = slice_channels(net, input_channels=1, keep=lambda name, width: 4)
    theirs = copy.deepcopy(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = tp.DependencyGraph().build_dependency(theirs, torch.rand(1, *SHAPE))
        graph.get_pruning_group(theirs[0], tp.prune_conv_out_channels, [4, 5]).prune()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(slim.state_dict()[name], tensor, msg=name)
