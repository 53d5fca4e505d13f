"""Channel criteria against a closed form, numpy, or a slow reference."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from nas.compression.base import CompressionContext
from nas.compression.importance.bn_scale import IMPORTANCE as BN_SCALE
from nas.compression.importance.l1 import IMPORTANCE as L1
from nas.compression.importance.l2 import IMPORTANCE as L2
from nas.compression.importance.similarity import IMPORTANCE as SIMILARITY
from nas.compression.importance.taylor import BATCH_SIZE
from nas.compression.importance.taylor import IMPORTANCE as TAYLOR
from nas.errors import BuildError
from tests.random_nets import context_of

NONE = context_of(images=0)


def with_weights(layer: nn.Module, weight: Tensor) -> dict[str, nn.Module]:
    layer.weight = nn.Parameter(weight)
    return {"layer": layer}


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_norms_equal_numpys_of_rows_and_columns(out: int, into: int, side: int, seed: int) -> None:
    weight = torch.randn(out, into, side, side, generator=torch.Generator().manual_seed(seed))
    layers = with_weights(nn.Conv2d(into, out, side), weight)
    array = weight.double().numpy()
    for criterion, order in ((L1, 1), (L2, 2)):
        rows = np.linalg.norm(array.reshape(out, -1), ord=order, axis=1)
        columns = np.linalg.norm(array.transpose(1, 0, 2, 3).reshape(into, -1), ord=order, axis=1)
        np.testing.assert_allclose(criterion.score(nn.Identity(), layers, NONE)["layer"], rows)
        np.testing.assert_allclose(criterion.score_inputs(nn.Identity(), layers, NONE)["layer"], columns)


@pytest.mark.parametrize("criterion", [L1, L2], ids=lambda criterion: criterion.name)
def test_depthwise_layers_have_no_input_scores(criterion: type) -> None:
    layers = with_weights(nn.Conv2d(3, 3, 1, groups=3), torch.tensor([1.0, -2, 3]).reshape(3, 1, 1, 1))
    assert criterion.score(nn.Identity(), layers, NONE)["layer"].tolist() == [1, 2, 3]  # type: ignore[attr-defined]
    assert criterion.score_inputs(nn.Identity(), layers, NONE) == {}  # type: ignore[attr-defined]


def test_bn_scale_uses_the_scales_of_norms_only() -> None:
    norm, bare = nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False)
    layers = {**with_weights(norm, torch.tensor([-2.0, 0, 1])), "bare": bare, "conv": nn.Conv2d(1, 3, 1)}
    scores_by_layer = BN_SCALE.score(nn.Identity(), layers, NONE)
    assert {name: values.tolist() for name, values in scores_by_layer.items()} == {"layer": [2, 0, 1]}


def test_the_filter_between_the_others_is_the_redundant_one() -> None:
    """Filters on a line at 0, 1, 2 and 10: the sums of distances are 13, 11, 11 and 27. Position counts, not size."""
    weight = torch.tensor([0.0, 1, 2, 10]).reshape(4, 1, 1, 1)
    scores_by_layer = SIMILARITY.score(nn.Identity(), with_weights(nn.Conv2d(1, 4, 1), weight), NONE)
    np.testing.assert_allclose(scores_by_layer["layer"], [13, 11, 11, 27])
    moved = SIMILARITY.score(nn.Identity(), with_weights(nn.Conv2d(1, 4, 1), weight - 7), NONE)
    np.testing.assert_allclose(moved["layer"], scores_by_layer["layer"], rtol=1e-6)


class Gated(nn.Module):
    """A small net with gates where `conv` and `linear` read their channels; `linear` is called twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.linear = nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.Linear(5, 5)
        self.gates = {"conv": torch.ones(1), "linear": torch.ones(5)}
        with torch.no_grad():
            self.norm.weight.copy_(torch.rand(5) + 0.5)
            self.norm.bias.copy_(torch.randn(5))
            self.norm.running_mean.copy_(torch.randn(5) * 30)
            self.norm.running_var.copy_(torch.rand(5) * 900 + 900)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.norm(self.conv(x * self.gates["conv"]))).mean((2, 3))
        x = self.linear(x * self.gates["linear"])
        result: Tensor = self.linear(x * self.gates["linear"])
        return result


def test_taylor_is_the_mean_magnitude_of_each_images_derivative_along_a_gate() -> None:
    """Against central differences of the loss in float64, image by image."""
    net, context = Gated().eval(), context_of(images=BATCH_SIZE + 8)
    layers = {name: net.get_submodule(name) for name in ("conv", "norm", "linear")}
    assert TAYLOR.score(net, layers, context) == {}
    scores_by_layer = TAYLOR.score_inputs(net, layers, context)
    assert set(scores_by_layer) == set(net.gates)
    net.double()
    images, labels = torch.from_numpy(context.images).double(), torch.from_numpy(context.labels)

    def losses(name: str, channel: int, step: float) -> Tensor:
        gate = net.gates[name]
        net.gates[name] = torch.ones(len(gate), dtype=torch.float64)
        net.gates[name][channel] += step
        with torch.no_grad():
            per_image: Tensor = functional.cross_entropy(net(images), labels, reduction="none")
        net.gates[name] = gate
        return per_image

    for name, scores in scores_by_layer.items():
        expected = [
            float((losses(name, channel, 1e-5) - losses(name, channel, -1e-5)).abs().mean()) / 2e-5
            for channel in range(len(scores))
        ]
        np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-9)


def test_opposite_effects_on_two_images_do_not_cancel() -> None:
    """Two equal images of different classes: the mean gradient at the optimum is 0, that of each image is not."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        net[3].weight.copy_(torch.tensor([[1.0, -1], [-1, 1]]))  # type: ignore[operator,union-attr]
        for tensor in (net[0].bias, net[3].bias):
            tensor.zero_()  # type: ignore[operator,union-attr]
        net[0].weight.copy_(torch.full((2, 1, 1, 1), 0.01))  # type: ignore[operator,union-attr]
    context = replace(
        context_of(images=0), images=np.full((2, 1, 4, 4), 100, np.uint8), labels=np.array([0, 1], np.int64)
    )
    scores = TAYLOR.score_inputs(net, {"3": net[3]}, context)["3"]
    np.testing.assert_allclose(scores, [1.0, 1.0], rtol=1e-5)  # value 1, weights 1 and -1, softmax at one half


def test_taylor_needs_images() -> None:
    with pytest.raises(BuildError, match="'taylor' needs labelled training images, but got none; use 'l1'"):
        TAYLOR.score_inputs(nn.Identity(), {}, NONE)


def test_a_channel_without_effect_has_a_taylor_score_of_zero() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)).eval()
    with torch.no_grad():
        net[3].weight[:, 1] = 0  # type: ignore[index,union-attr]
    context: CompressionContext = context_of(images=8)
    scores = TAYLOR.score_inputs(net, {"3": net[3]}, context)["3"]
    assert scores[1] == 0
    assert min(scores[0], scores[2]) > 0
    assert math.isfinite(scores.sum())
