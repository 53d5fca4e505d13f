"""NNI's channel scores against closed forms in numpy."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nas import registry
from nas.compression.nni.pruners import AGP_ITERATIONS, SLIM_STEPS
from nas.compression.pruning.criterion import ChannelScores
from nas.errors import BuildError
from tests.random_nets import context_of, trained_net


def scored(name: str) -> tuple[nn.Module, ChannelScores]:
    net = trained_net("plain", seed=1).net
    layers = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d)}
    return net, registry.load("importance", name).score(net, layers, context_of(images=40))


def rows_of(net: nn.Module, name: str) -> np.ndarray:
    return net.get_submodule(name).get_parameter("weight").detach().double().flatten(1).numpy()


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("nni_l1", lambda rows: np.abs(rows).sum(1)),
        ("nni_l2", lambda rows: np.sqrt(np.square(rows).sum(1))),
        ("nni_fpgm", lambda rows: np.sqrt(np.square(rows[:, None] - rows[None]).sum(2)).sum(1)),
    ],
)
def test_criteria_of_weights(name: str, reference: object) -> None:
    net, scores = scored(name)
    assert set(scores) == {n for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    for layer, values in scores.items():
        np.testing.assert_allclose(values, reference(rows_of(net, layer)), rtol=1e-4)  # type: ignore[operator]


def test_taylor_is_the_mean_square_of_weight_times_gradient() -> None:
    net, scores = scored("nni_taylor")
    context, probe = context_of(images=40), copy.deepcopy(net).eval()
    images, labels = torch.from_numpy(context.images).float(), torch.from_numpy(context.labels)
    expected: dict[str, np.ndarray] = {}
    for part in (slice(0, 32), slice(32, 40)):
        probe.zero_grad()
        functional.cross_entropy(probe(images[part]), labels[part]).backward()  # type: ignore[no-untyped-call]
        for layer in scores:
            weight = probe.get_submodule(layer).get_parameter("weight")
            assert weight.grad is not None
            product = (weight.grad * weight.detach()).double().square().flatten(1).sum(1).numpy() / 2
            expected[layer] = expected.get(layer, 0) + product
    for layer, values in scores.items():
        np.testing.assert_allclose(values, expected[layer], rtol=1e-3)


def test_slim_is_gamma_times_a_factor_that_has_moved_a_little() -> None:
    """Adam's steps are at most 0.01, but the first few may be a little longer because of its bias correction."""
    net, scores = scored("nni_slim")
    assert set(scores) == {n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for layer, values in scores.items():
        gamma = net.get_submodule(layer).get_parameter("weight").detach().abs().double().numpy()
        np.testing.assert_allclose(values, gamma, rtol=0.015 * SLIM_STEPS)
        assert not np.allclose(values, gamma, rtol=1e-3), "training must change some factors"


def test_agp_ranks_by_the_masks_that_a_channel_survives() -> None:
    net, scores = scored("nni_agp")
    for values in scores.values():
        survived = np.floor(values)
        assert survived.max() == AGP_ITERATIONS, "at least one channel in ten survives all masks"
        assert (survived == 0).any() or len(values) < 4, "the first mask removes a third of the channels"
    first = next(name for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and name.startswith("stage"))
    norms = np.abs(rows_of(net, first)).sum(1)
    assert np.corrcoef(norms.argsort().argsort(), scores[first].argsort().argsort())[0, 1] > 0.7


@pytest.mark.parametrize("name", ["nni_taylor", "nni_agp", "nni_slim"])
def test_criteria_that_train_need_images(name: str) -> None:
    net = trained_net("plain", seed=1).net
    with pytest.raises(BuildError, match="needs labelled training images, but got none; use 'nni_l1'"):
        registry.load("importance", name).score(net, dict(net.named_modules()), context_of(images=0))
