"""Proof that a half-wide net computes what the whole one does with the leaving channels silenced."""

import pytest
import torch
from torch import Tensor, nn

from nas.compression.pruning.pruning_check import check_pruning_is_exact
from nas.errors import BuildError
from search_spaces._leaf import Leaf

SHAPE = (1, 16, 16)


class Reversed(Leaf):
    """A module that the pruner takes for element-wise, but that changes the order of channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1)


def net(middle: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), middle, nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()  # fmt: skip


@pytest.mark.parametrize(
    "middle",
    [
        nn.ReLU(),
        nn.PReLU(8),
        nn.GroupNorm(4, 8),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Softmax(dim=1),
        nn.LocalResponseNorm(3),
        nn.ChannelShuffle(2),
    ],
    ids=str,
)
def test_layers_that_are_followed_pass(middle: nn.Module) -> None:
    torch.manual_seed(0)
    check_pruning_is_exact(net(middle), input_shape=SHAPE)


def test_a_layer_that_mixes_channels_unseen_is_refused() -> None:
    with pytest.raises(BuildError, match="with the leaving channels silenced, but its logits differ by"):
        check_pruning_is_exact(net(Reversed()), input_shape=SHAPE)
