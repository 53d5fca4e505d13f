"""Hypervolume improvement against the difference of two hypervolumes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.pareto import hypervolume
from nas.searcher.acquisition.hypervolume_improvement import hypervolume_improvement, non_dominated_boxes


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 4), n=st.integers(0, 7), seed=st.integers(0, 10_000), ties=st.booleans())
def test_improvement_is_the_growth_of_the_hypervolume(m: int, n: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    front, points = rng.random((n, m)), rng.random((6, m)) * 1.4 - 0.2
    if ties:
        front, points = front.round(1), points.round(1)
    reference = np.full(m, 0.1)
    up = [True] * m
    before = hypervolume(front, reference.tolist(), up)
    growth = [hypervolume(np.vstack([front, p]), reference.tolist(), up) - before for p in points]
    np.testing.assert_allclose(
        hypervolume_improvement(points, non_dominated_boxes(front, reference)), growth, atol=1e-12
    )


def test_improvements_have_the_shape_of_the_points_and_nan_improves_nothing() -> None:
    boxes = non_dominated_boxes(np.array([[1.0, 2.0], [2.0, 1.0]]), np.zeros(2))
    points = np.array([[[2.0, 2.0], [3.0, 3.0]], [[1.0, 1.0], [np.nan, 9.0]]])
    np.testing.assert_allclose(hypervolume_improvement(points, boxes), [[1.0, 6.0], [0.0, 0.0]])
