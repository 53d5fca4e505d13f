"""Pareto mathematics against closed forms, slow reference implementations and Optuna."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.pareto import hypervolume, knee, non_dominated, ranks, spread

GRID = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0])


def clouds(columns: int, *, rows: int = 12):
    return st.integers(0, rows).flatmap(lambda n: arrays(np.float64, (n, columns), elements=GRID))


def dominates(a, b, maximize) -> bool:
    better = [(x > y) if up else (x < y) for x, y, up in zip(a, b, maximize, strict=True)]
    no_worse = [(x >= y) if up else (x <= y) for x, y, up in zip(a, b, maximize, strict=True)]
    return all(no_worse) and any(better)


def counted_volume(points, reference) -> int:
    """Unit cells of the integer grid below some point; all objectives are maximised, everything is an integer."""
    cells = itertools.product(*(range(int(r), 5) for r in reference))
    return sum(any(all(p[d] >= c[d] + 1 for d in range(len(c))) for p in points) for c in cells)


def test_front_of_a_hand_computed_case() -> None:
    points = [[0.6, 5.0], [0.7, 9.0], [0.5, 6.0], [0.7, 9.0], [np.nan, 1.0], [0.8, np.inf]]
    assert non_dominated(points, [True, False]).tolist() == [True, True, False, False, False, True]


@given(clouds(3), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_front_matches_the_definition(points, maximize) -> None:
    expected = [
        not any(dominates(q, p, maximize) for q in points) and not any((q == p).all() for q in points[:i])
        for i, p in enumerate(points)
    ]
    assert non_dominated(points, maximize).tolist() == expected


@given(clouds(2), st.randoms(use_true_random=False))
def test_front_does_not_depend_on_the_order(points, random) -> None:
    order = list(range(len(points)))
    random.shuffle(order)
    front = {tuple(p) for p in points[non_dominated(points, [True, False])]}
    assert {tuple(p) for p in points[order][non_dominated(points[order], [True, False])]} == front


def test_ranks_of_three_layers_with_equal_points_and_a_nan() -> None:
    points = [[3, 3], [2, 2], [1, 1], [2, 2], [np.nan, 9]]
    assert ranks(points, [True, True]).tolist() == [0, 1, 2, 1, 3]


@given(clouds(2))
def test_rank_is_the_length_of_the_longest_chain_of_dominators(points) -> None:
    found = ranks(points, [True, False])
    for p, rank in zip(points, found, strict=True):
        above = [r for q, r in zip(points, found, strict=True) if dominates(q, p, [True, False])]
        assert rank == (max(above) + 1 if above else 0)


def test_hypervolume_of_overlapping_boxes() -> None:
    # accuracy 0.5 at 2 ms and 0.8 at 6 ms, reference (0, 10 ms): 0.5*8 + (0.8-0.5)*4
    assert hypervolume([[0.5, 2.0], [0.8, 6.0]], [0.0, 10.0], [True, False]) == pytest.approx(5.2)


def test_points_beyond_the_reference_and_nan_add_nothing() -> None:
    assert hypervolume([[0.5, 12.0], [np.nan, 1.0], [-0.1, 1.0], [np.inf, 1.0]], [0.0, 10.0], [True, False]) == 0.0
    assert hypervolume(np.empty((0, 2)), [0.0, 10.0], [True, False]) == 0.0


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_hypervolume_equals_counted_cells(columns: int) -> None:
    rng = np.random.default_rng(columns)
    for _ in range(25):
        points = rng.integers(0, 5, (rng.integers(0, 9), columns)).astype(float)
        assert hypervolume(points, [0.0] * columns, [True] * columns) == counted_volume(points, [0] * columns)


@settings(max_examples=50)
@given(clouds(3), arrays(np.float64, (3,), elements=GRID))
def test_further_point_never_reduces_the_volume(points, further) -> None:
    before = hypervolume(points, [-1.0] * 3, [True] * 3)
    assert hypervolume(np.vstack([points, further]), [-1.0] * 3, [True] * 3) >= before - 1e-9


def test_hypervolume_agrees_with_optuna() -> None:
    wfg = pytest.importorskip("optuna._hypervolume", reason="a second implementation").compute_hypervolume
    points = np.random.default_rng(0).random((40, 3))
    assert hypervolume(points, [1.1] * 3, [False] * 3) == pytest.approx(wfg(points, np.full(3, 1.1)))


def test_knee_is_the_corner_of_a_convex_front() -> None:
    # Scaled, the values of (accuracy, latency) sum to 1, 0.9 + 0.8 and 1.
    assert knee([[0.5, 1.0], [0.68, 2.8], [0.7, 10.0]], [True, False]) == 1
    assert knee([[0.1, 9.0], [0.7, 10.0], [0.7, 3.0]], [True, False]) == 2
    assert knee([[0.6, 5.0]], [True, False]) == 0


def test_knee_ignores_dominated_points_and_nan() -> None:
    points = [[np.nan, 0.0], [0.5, 1.0], [0.66, 2.9], [0.68, 2.8], [0.7, 10.0]]
    assert knee(points, [True, False]) == 3


def test_spread_takes_the_knee_first_and_then_the_ends() -> None:
    points = [[0.5, 1.0], [0.68, 2.8], [0.4, 9.0], [0.7, 10.0]]
    assert spread(points, [True, False], 1) == [1]
    assert set(spread(points, [True, False], 9)) == {0, 1, 3}
    assert spread(points, [True, False], 0) == []


@settings(max_examples=30)
@given(clouds(2), st.integers(0, 5))
def test_spread_chooses_distinct_members_of_the_front(points, k) -> None:
    mask = non_dominated(points, [True, False])
    chosen = spread(points, [True, False], k)
    assert len(set(chosen)) == len(chosen) == min(k, mask.sum())
    assert all(mask[i] for i in chosen)


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="one column for each flag"):
        non_dominated([[1.0, 2.0]], [True])
    with pytest.raises(ValueError, match="one column for each flag"):
        ranks([1.0, 2.0], [True, False])
    with pytest.raises(ValueError, match="finite values"):
        hypervolume([[1.0, 2.0]], [0.0], [True, False])
    with pytest.raises(ValueError, match="finite values"):
        hypervolume([[1.0, 2.0]], [0.0, np.inf], [True, False])
    with pytest.raises(ValueError, match="but got none"):
        knee([[np.nan, 1.0]], [True, False])
    with pytest.raises(ValueError, match="k must be 0 or more"):
        spread([[1.0, 2.0]], [True, False], -1)
