"""Groups of coupled channels, also in user-defined models, and the layers that are rejected by name."""

import operator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from nas.compression.pruning.channel_groups import trace_channel_groups
from nas.errors import BuildError
from search_spaces._leaf import Add, Concat, Leaf, Scale


class Net(nn.Module):
    """Layers by name, and a function over them."""

    def __init__(self, forward: object, **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.run(self.layers, x)  # type: ignore[operator]
        return result


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.ConvTranspose2d(1, 4, 3)), "'0' is a ConvTranspose2d: transposed convolutions"),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.PixelShuffle(2)), "'1' is a PixelShuffle: it moves numbers"),
        (nn.Sequential(nn.Bilinear(1, 2, 3)), "'0' is a Bilinear: which of its weights"),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(2)), "'1' is a Flatten: it must start at axis 1"),
        (
            nn.Sequential(parametrizations.weight_norm(nn.Conv2d(1, 4, 1))),
            "'0' is a ParametrizedConv2d with 'parametrizations.weight.original0': its weights are computed",
        ),
    ],
)
def test_unsupported_layers_are_named_with_the_reason(net: nn.Module, message: str) -> None:
    with pytest.raises(BuildError, match=f"must consist of supported layers, but {message}"):
        trace_channel_groups(net, input_channels=1)


class Free(nn.Module):
    """A net with a parameter outside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gain = nn.Conv2d(1, 4, 1), nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x) * self.gain
        return result


def test_a_parameter_outside_a_layer_is_rejected() -> None:
    with pytest.raises(BuildError, match="'gain' is a tensor outside a layer: which of its numbers are channels"):
        trace_channel_groups(Free(), input_channels=1)


def test_weights_shared_by_two_layers_are_rejected() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    net[1].weight = net[0].weight
    with pytest.raises(BuildError, match="'1' is a Conv2d: it shares weights with '0'"):
        trace_channel_groups(net, input_channels=3)


class Pick(Leaf):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return b


def test_an_unknown_leaf_with_two_inputs_is_rejected() -> None:
    net = Net(lambda m, x: m["pick"](m["a"](x), m["b"](x)), a=nn.Conv2d(1, 3, 1), b=nn.Conv2d(1, 4, 1), pick=Pick())
    with pytest.raises(BuildError, match="is a Pick: how its 2 inputs become channels is not known"):
        trace_channel_groups(net, input_channels=1)


def test_concatenated_flattened_maps_must_be_1x1() -> None:
    def joined(m: nn.ModuleDict, x: Tensor) -> Tensor:
        return torch.cat([m["flat"](m["a"](x)), m["flat"](m["pool"](m["a"](x)))], 1)

    def run(pool: nn.Module) -> None:
        trace_channel_groups(Net(joined, a=nn.Conv2d(1, 3, 1), pool=pool, flat=nn.Flatten()), input_channels=1)

    with pytest.raises(BuildError, match="'cat' is a Concat of flattened maps: how many numbers each channel has"):
        run(nn.AdaptiveAvgPool2d(1))
    points = Net(
        lambda m, x: torch.cat([m["flat"](m["mean"](m["a"](x))), m["flat"](m["max"](m["a"](x)))], 1),
        a=nn.Conv2d(1, 3, 1), mean=nn.AdaptiveAvgPool2d(1), max=nn.AdaptiveMaxPool2d(1), flat=nn.Flatten(),
    )  # fmt: skip
    trace_channel_groups(points, input_channels=1)


def test_a_flattened_map_has_a_channels_pixels_side_by_side() -> None:
    """Against torch: where a channel's pixels have equal weights, the linear layer sums over them."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Dropout(), nn.Identity(), nn.Flatten(), nn.Linear(3 * 4, 2))
    conv, linear = trace_channel_groups(net, input_channels=1).layers
    assert linear.input_ids is not None
    spread = [int(i) for i in linear.input_ids]
    assert spread == [int(i) for i in conv.output_ids for _ in range(4)]
    weight = torch.tensor([1.0, 10, 100])[torch.tensor(spread) - min(spread)].expand(2, -1)
    with torch.no_grad():
        net[4].weight.copy_(weight)  # type: ignore[operator,union-attr]
        x = torch.rand(2, 1, 4, 4)
        expected = net[4].bias + (net[0](x).sum((2, 3)) * torch.tensor([1.0, 10, 100])).sum(1, keepdim=True)
        torch.testing.assert_close(net.eval()(x), expected)


def test_channels_of_one_norm_group_are_removed_together() -> None:
    channel_groups = trace_channel_groups(nn.Sequential(nn.Conv2d(1, 6, 1), nn.GroupNorm(3, 6)), input_channels=1)
    a, b, c, d, e, f = channel_groups.group_ids(channel_groups.layers[0].output_ids)
    assert (a, c, e) == (b, d, f)
    assert len({a, c, e}) == 3


def test_a_layer_called_twice_reads_and_writes_the_same_channels_each_time() -> None:
    net = Net(
        lambda m, x: operator.add(m["twice"](m["a"](x)), m["twice"](m["b"](x))),
        a=nn.Conv2d(1, 4, 1), b=nn.Conv2d(1, 4, 3, padding=1), twice=nn.Conv2d(4, 5, 1),
    )  # fmt: skip
    channel_groups = trace_channel_groups(net, input_channels=1)
    layers = {layer.name.split(".")[1]: layer for layer in channel_groups.layers}
    assert [layer.name for layer in channel_groups.layers] == ["layers.a", "layers.twice", "layers.b"]
    assert (
        channel_groups.group_ids(layers["a"].output_ids).tolist()
        == channel_groups.group_ids(layers["b"].output_ids).tolist()
    )


def test_a_gate_shared_by_all_channels_is_kept() -> None:
    net = Net(
        lambda m, x: m["map"](x) * m["gate"](x),
        map=nn.Conv2d(1, 4, 1), gate=nn.Conv2d(1, 1, 1),
    )  # fmt: skip
    channel_groups = trace_channel_groups(net, input_channels=1)
    gate = next(layer for layer in channel_groups.layers if layer.name == "layers.gate")
    assert int(gate.output_ids[0]) in channel_groups.fixed_ids


def test_image_and_logits_are_fixed() -> None:
    channel_groups = trace_channel_groups(nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 1)), input_channels=2)
    first, last = channel_groups.layers
    assert first.input_ids is not None
    assert set(channel_groups.fixed_ids) == {*first.input_ids.tolist(), *last.output_ids.tolist()}


@pytest.mark.parametrize("joint", [Add, Scale])
def test_adding_maps_of_different_widths_is_rejected_by_name(joint: type[nn.Module]) -> None:
    net = Net(lambda m, x: m["j"](m["a"](x), m["b"](x)), a=nn.Conv2d(1, 3, 1), b=nn.Conv2d(1, 4, 1), j=joint())
    with pytest.raises(BuildError, match=r"inputs of 'layers.j' must have equally many channels, but got 3 and 4"):
        trace_channel_groups(net, input_channels=1)


def test_concatenated_channels_keep_their_order() -> None:
    net = Net(lambda m, x: m["c"](m["j"](m["a"](x), m["b"](x))), a=nn.Conv2d(1, 3, 1), b=nn.Conv2d(1, 4, 1),
              j=Concat(), c=nn.Conv2d(7, 2, 1))  # fmt: skip
    a, b, c = trace_channel_groups(net, input_channels=1).layers
    assert c.input_ids is not None
    assert c.input_ids.tolist() == [*a.output_ids, *b.output_ids]
