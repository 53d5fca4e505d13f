"""Global ranking against hand-computed blocks, and against the costs of exported files."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.compression.pruning.channel_groups import trace_channel_groups
from nas.compression.pruning.global_ranking import globally_removed_groups, prune_globally
from nas.errors import BuildError
from nas.latency.costs import compute_costs
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from tests.random_nets import CLASSES, SHAPE, SPACES, pictures, random_net


def chain(first: int, second: int) -> nn.Module:
    """Two convolutions of 1x1 with so many channels, between a grey image and three classes."""
    layers = (nn.Conv2d(1, first, 1), nn.ReLU(), nn.Conv2d(first, second, 1), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(second, 3)).eval()


def widths(net: nn.Module) -> list[int]:
    return [module.out_channels for module in net.modules() if isinstance(module, nn.Conv2d)]


def removed_places(net: nn.Module, scores: list[list[float]], *, share: float, multiple: int = 4) -> list[list[int]]:
    """Indices of the channels that leave each convolution, where `scores` has one list for each."""
    groups = trace_channel_groups(net, input_channels=1)
    ids = [groups.group_ids(layer.output_ids) for layer in groups.layers[:-1]]
    by_group = {int(root): s for roots, of in zip(ids, scores, strict=True) for root, s in zip(roots, of, strict=True)}
    removed = globally_removed_groups(
        net, groups, by_group, input_shape=(1, 2, 2), macs_share=share, channel_multiple=multiple
    )
    return [[i for i, root in enumerate(roots) if int(root) in removed] for roots in ids]


def test_the_block_of_the_lowest_mean_leaves_first() -> None:
    """MACs: 4 pixels x (8 + 8 x 8) + 3 x 8 = 312; without 4 channels of the first 168, of the second 172."""
    first, second = [9, 1, 9, 1, 9, 1, 9, 1.0], [2, 2, 3, 3, 0, 2, 9, 9.0]
    assert removed_places(chain(8, 8), [first, second], share=0.6) == [[1, 3, 5, 7], []]
    assert removed_places(chain(8, 8), [[s + 1 for s in first], second], share=0.6) == [[], [0, 1, 4, 5]]
    assert removed_places(chain(8, 8), [first, second], share=0.5) == [[1, 3, 5, 7], [0, 1, 4, 5]]
    assert removed_places(chain(8, 8), [first, second], share=1.0) == [[], []]


def test_the_first_block_leads_to_the_grid() -> None:
    scores = [[5.0] * 8, [1, 2, 3, 4, 5, 6.0]]
    assert removed_places(chain(8, 6), scores, share=0.8) == [[], [0, 1]]


def test_a_share_that_cannot_be_reached_is_refused() -> None:
    with pytest.raises(BuildError, match=r"at most 20\.0% of the MACs .* with 4 channels in every .* it is 29\.5%"):
        removed_places(chain(8, 8), [[1.0] * 8, [1.0] * 8], share=0.2)


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(BuildError, match=r"must be in \(0, 1\], but got"):
        removed_places(chain(8, 8), [[1.0] * 8, [1.0] * 8], share=share)


@pytest.mark.parametrize("space_name", SPACES)
def test_the_file_of_a_pruned_net_has_the_share_of_the_macs_and_aligned_widths(space_name: str, tmp_path: Path) -> None:
    sample = random_net(space_name, seed=3, attention="se")
    slim = prune_globally(sample.net, input_shape=SHAPE, macs_share=0.7, channel_multiple=4)
    macs = []
    for i, net in enumerate((sample.net, slim)):
        file = export_onnx(
            fold(copy.deepcopy(net), input_shape=SHAPE), tmp_path / f"{i}.onnx", input_shape=SHAPE, classes=CLASSES,
            metadata={},
        )  # fmt: skip
        macs.append(compute_costs(file.path).macs)
    assert 0.3 < macs[1] / macs[0] <= 0.7
    before = {name: m for name, m in sample.net.named_modules() if isinstance(m, nn.Conv2d)}
    for name, module in slim.named_modules():
        if isinstance(module, nn.Conv2d) and module.out_channels != before[name].out_channels:
            assert module.out_channels % 4 == 0


def test_channels_without_weights_leave_and_change_nothing() -> None:
    torch.manual_seed(0)
    net = chain(16, 16)
    with torch.no_grad():
        net[0].weight.copy_(torch.rand(16, 1, 1, 1) + 1)  # type: ignore[index,operator]
        for i, rows in ((0, slice(0, 8)), (2, slice(4, 12))):
            for tensor in (net[i].weight, net[i].bias):  # type: ignore[index]
                tensor[rows] = 0  # type: ignore[index,operator]
    slim = prune_globally(net, input_shape=SHAPE, macs_share=0.3, channel_multiple=8)
    assert widths(slim) == [8, 8]
    pixels = torch.from_numpy(pictures(4, seed=0)).float()
    with torch.no_grad():
        torch.testing.assert_close(slim(pixels), net(pixels), rtol=1e-4, atol=1e-4)
    assert widths(net) == [16, 16]
