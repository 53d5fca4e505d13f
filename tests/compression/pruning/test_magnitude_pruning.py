"""Masks and their schedule, against closed forms and a slow reference in numpy."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas.compression.pruning.magnitude_pruning import (
    RAMP_END_PROGRESS,
    MagnitudePruner,
    ParameterGroup,
    cubic_sparsity,
    is_prunable,
    sparsify,
    supports_2_4_sparsity,
)

shares = st.floats(0, 1)
seeds = st.integers(0, 2**32 - 1)


def weight_of(*shape: int, seed: int = 0, scale: float = 1.0, levels: int | None = None) -> nn.Parameter:
    """Normal weights; with `levels`, on a grid, so that many are equal and some are zero."""
    values = np.random.default_rng(seed).normal(size=shape) * scale
    if levels:
        values = np.round(values * levels) / levels
    return nn.Parameter(torch.from_numpy(values.astype(np.float32)))


def array(weight: nn.Parameter) -> npt.NDArray[np.float32]:
    return weight.detach().numpy().copy()


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0, 0.0),
        (RAMP_END_PROGRESS / 2, 0.8 * (1 - 1 / 8)),
        (RAMP_END_PROGRESS / 4, 0.8 * (1 - 27 / 64)),
        (RAMP_END_PROGRESS, 0.8),
        (1, 0.8),
    ],
)
def test_the_schedule_is_cubic(progress: float, expected: float) -> None:
    assert cubic_sparsity(progress, initial=0.0, final=0.8) == pytest.approx(expected, abs=1e-12)


@given(start=shares, final=shares, first=shares, second=shares)
def test_the_schedule_never_restores_weights(start: float, final: float, first: float, second: float) -> None:
    early, late = sorted((first, second))
    a, b = (cubic_sparsity(progress, initial=start, final=final) for progress in (early, late))
    assert start <= a + 1e-12
    assert a <= b + 1e-12
    assert cubic_sparsity(1.0, initial=start, final=final) == max(start, final)


@given(share=shares, seed=seeds, levels=st.sampled_from([None, 3]))
def test_a_layer_keeps_its_largest_weights(share: float, seed: int, levels: int | None) -> None:
    weight = weight_of(6, 5, 3, 3, seed=seed, levels=levels)
    before = array(weight)
    sparsify(ParameterGroup(weights=(weight,), sparsity=share), share)
    after = array(weight)
    gone = (after == 0) & (before != 0)
    assert np.array_equal(after[~gone], before[~gone])
    assert (after == 0).sum() == max(int(share * before.size + 1e-9), (before == 0).sum())
    if gone.any() and (after != 0).any():
        assert np.abs(before[gone]).max() <= np.abs(after[after != 0]).min()


@given(share=shares, seed=seeds)
def test_ranking_twice_changes_nothing(share: float, seed: int) -> None:
    pool = ParameterGroup(weights=(weight_of(4, 8, seed=seed), weight_of(7, 3, seed=seed + 1)), sparsity=share)
    sparsify(pool, share)
    once = [array(weight) for weight in pool.weights]
    sparsify(pool, share)
    assert all(np.array_equal(a, array(weight)) for a, weight in zip(once, pool.weights, strict=True))


def lamp(weights: list[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float64]]:
    """The scores of Lee et al. 2021, equation 5, one weight at a time."""
    return [
        np.array([w**2 / sum(v**2 for v in weight.ravel().tolist() if v**2 >= w**2) for w in weight.ravel().tolist()])
        for weight in weights
    ]


@given(share=st.floats(0, 0.95), seed=seeds)
def test_several_layers_are_ranked_by_lamp(share: float, seed: int) -> None:
    weights = [weight_of(5, 4, seed=seed), weight_of(3, 6, seed=seed + 1, scale=100.0)]
    scores = np.concatenate(lamp([array(weight) for weight in weights]))
    sparsify(ParameterGroup(weights=tuple(weights), sparsity=share), share)
    kept = np.concatenate([array(weight).ravel() != 0 for weight in weights])
    assert (~kept).sum() == int(share * 38 + 1e-9)
    if not kept.all():
        assert scores[~kept].max() <= scores[kept].min() * (1 + 1e-6)
    assert all((array(weight) != 0).any() for weight in weights)  # neither layer is emptied


@given(share=st.floats(0, 0.5), seed=seeds, kernel=st.sampled_from([(), (1, 1), (3, 3)]))
def test_two_of_four_neighbours_are_kept(share: float, seed: int, kernel: tuple[int, ...]) -> None:
    weight = weight_of(3, 8, *kernel, seed=seed)
    before = array(weight)
    pool = ParameterGroup(weights=(weight,), sparsity=share, is_2_4=True)
    sparsify(pool, share)
    groups = np.moveaxis(array(weight), 1, -1).reshape(-1, 4)
    assert ((groups == 0).sum(1) <= 2).all()
    sparsify(pool, 0.5)
    groups, old = (np.moveaxis(w, 1, -1).reshape(-1, 4) for w in (array(weight), before))
    assert ((groups == 0).sum(1) == 2).all()
    assert np.array_equal(np.sort(np.abs(groups), 1)[:, 2:], np.sort(np.abs(old), 1)[:, 2:])


def test_2_4_sparsity_needs_wide_layers_in_multiples_of_four() -> None:
    assert supports_2_4_sparsity(torch.zeros(256, 256, 3, 3), min_channels=256)
    assert supports_2_4_sparsity(torch.zeros(512, 256), min_channels=256)
    assert not supports_2_4_sparsity(torch.zeros(256, 255, 1, 1), min_channels=200)
    assert not supports_2_4_sparsity(torch.zeros(512, 128, 3, 3), min_channels=256)
    assert not supports_2_4_sparsity(torch.zeros(128, 512, 3, 3), min_channels=256)


def test_depthwise_weights_and_vectors_are_not_prunable() -> None:
    layers = nn.Conv2d(8, 8, 3, groups=8), nn.Conv1d(1, 1, 3), nn.BatchNorm2d(8)
    assert not any(is_prunable(layer.weight) for layer in layers)
    assert is_prunable(nn.Conv2d(8, 4, 3).weight)
    assert is_prunable(nn.Linear(8, 4).weight)


def run(pool: ParameterGroup, *, until: float = 1.0) -> list[float]:
    """A training that adds noise to all weights after each of 50 steps; returns the share of zeros at each step."""
    rng, zeros = np.random.default_rng(1), MagnitudePruner([pool])
    sparsities = []
    for step in range(round(50 * until)):
        zeros.before_step(step / 50)
        sparsities.append(pool.current_sparsity)
        with torch.no_grad():
            for weight in pool.weights:
                weight.add_(torch.from_numpy(rng.normal(scale=0.01, size=weight.shape)).float())
    zeros.finish()
    return sparsities


def test_zeros_follow_the_schedule_and_are_exact_at_the_end() -> None:
    weight = weight_of(20, 50)
    sparsities = run(ParameterGroup(weights=(weight,), sparsity=0.9))
    expected = [cubic_sparsity(step / 50, initial=0, final=0.9) for step in range(50)]
    assert np.allclose(sparsities, expected, atol=0.03)  # ranked at every hundredth, rounded down
    assert int((weight == 0).sum()) == 900


def test_a_later_training_starts_from_the_existing_zeros() -> None:
    weight = weight_of(20, 50)
    pool = ParameterGroup(weights=(weight,), sparsity=0.5)
    run(pool)
    dead = (weight == 0).detach().clone()
    again = run(ParameterGroup(weights=(weight,), sparsity=0.75))
    assert min(again) == 0.5
    assert int((weight == 0).sum()) == 750
    assert bool((weight[dead] == 0).all())
    less = run(ParameterGroup(weights=(weight,), sparsity=0.25))  # a lower target restores no weights
    assert min(less) == 0.75
    assert int((weight == 0).sum()) == 750


def test_a_training_that_ends_early_still_reaches_the_target() -> None:
    weight = weight_of(20, 50)
    assert max(run(ParameterGroup(weights=(weight,), sparsity=0.9), until=0.2)) < 0.8
    assert int((weight == 0).sum()) == 900
