"""Contract of the proxies, run over every member; and each proxy against a closed form."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from nas import registry
from nas.evaluation.proxy import Proxy
from search_spaces._base import SearchSpace

PROXIES = [registry.load("proxy", name) for name in registry.names("proxy")]
PIXELS = torch.randint(0, 256, (8, 1, 48, 48), generator=torch.Generator().manual_seed(0)).float()


def a_net(space: str = "plain") -> nn.Module:
    member: SearchSpace = registry.load("space", space)
    torch.manual_seed(1)
    seed = member.initial_configurations(channel_multiple=8)[0]
    return member.build(member.decode(seed), input_shape=(1, 48, 48), classes=7)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(2)
    return make()


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda p: p.name)
class TestContract:
    def test_a_member_is_named_after_its_file(self, proxy: Proxy) -> None:
        assert registry.load("proxy", proxy.name) is proxy

    @pytest.mark.parametrize("space", registry.names("space"))
    def test_a_network_of_each_space_has_a_finite_score_within_a_second(self, proxy: Proxy, space: str) -> None:
        net = a_net(space)
        begin = time.process_time()
        assert np.isfinite(proxy.score(net, PIXELS))
        assert time.process_time() - begin < 1.0

    def test_network_and_random_state_stay_the_same_and_the_score_repeats(self, proxy: Proxy) -> None:
        net = a_net().eval()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        torch.manual_seed(5)
        first = proxy.score(net, PIXELS)
        drawn = torch.rand(3)
        assert proxy.score(net, PIXELS) == first
        torch.manual_seed(5)
        assert torch.equal(torch.rand(3), drawn)
        assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
        assert not net.training
        assert all(p.grad is None for p in net.parameters())


def test_synflow_of_a_chain_is_the_product_of_its_weights() -> None:
    weights = (0.5, -3.0, 0.2, -7.0)
    net = nn.Sequential(*(nn.Conv2d(1, 1, 1, bias=False) for _ in weights), nn.Flatten())
    for layer, weight in zip(net, weights, strict=False):
        nn.init.constant_(layer.weight, weight)
    score = registry.load("proxy", "synflow").score(net, torch.rand(2, 1, 1, 1))
    assert np.exp(score) == pytest.approx(len(weights) * abs(np.prod(weights)), rel=1e-5)


def test_synflow_of_two_layers_by_matrices_and_of_a_network_without_flow() -> None:
    net = seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False))
    )
    first, second = (np.abs(m.weight.detach().numpy()) for m in (net[1], net[3]))
    score = registry.load("proxy", "synflow").score(net, torch.rand(2, 1, 2, 3))
    assert np.exp(score) == pytest.approx(2 * (second @ first).sum(), rel=1e-5)
    nn.init.zeros_(net[1].weight)
    assert registry.load("proxy", "synflow").score(net, torch.rand(2, 1, 2, 3)) == -np.inf


def test_nwot_is_the_determinant_of_agreeing_units() -> None:
    net = nn.Sequential(nn.Flatten(), nn.ReLU())
    images = torch.tensor([[1.0, 1, 1, -1], [1, -1, 1, 1], [-1, 1, 1, 1]]).reshape(3, 1, 2, 2)
    kernel = np.array([[4, 2, 2], [2, 4, 2], [2, 2, 4]])
    score = registry.load("proxy", "nwot").score(net, images)
    assert score == pytest.approx(np.log(np.linalg.det(kernel)))
    assert registry.load("proxy", "nwot").score(net, images[[0, 0]]) == -np.inf
    assert registry.load("proxy", "nwot").score(nn.Flatten(), images) == -np.inf


def test_jacov_of_equal_and_of_unrelated_jacobians() -> None:
    jacov, n, k = registry.load("proxy", "jacov"), 4, 1e-5
    linear = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 2)))
    equal = jacov.score(linear, torch.rand(n, 1, 3, 3))
    by_hand = np.array([n, 0, 0, 0]) + k
    assert equal == pytest.approx(-(np.log(by_hand) + 1 / by_hand).sum(), rel=1e-6)

    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """The Jacobian is the image itself."""
            return x.flatten(1).square() / 2

    waves = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]).reshape(3, 1, 2, 2)
    assert jacov.score(Square(), waves) == pytest.approx(-3 * (np.log(1 + k) + 1 / (1 + k)))
    assert jacov.score(Square(), torch.rand(n, 1, 3, 3)) > equal
    assert jacov.score(Square(), torch.ones(n, 1, 3, 3)) == -np.inf
