"""Variation of codes: mutation and crossover, local search, space-filling points."""

import numpy as np
from optuna.distributions import BaseDistribution, IntDistribution

from nas.searcher.acquisition.encoding import Codes, GeneEncoding
from nas.searcher.acquisition.variation import MUTATION_COUNTS, farthest, local_search, offspring, van_der_corput

SPACE: dict[str, BaseDistribution] = {f"g{i}": IntDistribution(0, i) for i in range(10)}
ENCODING = GeneEncoding(SPACE)


def test_children_of_one_parent_differ_in_one_to_three_free_genes() -> None:
    parent = np.zeros((1, 10), dtype=np.int64)
    free = np.arange(10) != 9
    children = offspring(parent, 500, ENCODING, free, np.random.default_rng(0))
    assert (children >= 0).all()
    assert (children < ENCODING.n_options).all()
    assert set((children != parent).sum(axis=1)) == set(MUTATION_COUNTS)
    assert not children[:, 9].any()
    assert not children[:, 0].any(), "a gene with one option has no other"


def test_local_search_climbs_and_returns_the_best_child() -> None:
    def children_of(parent: Codes) -> tuple[Codes, np.ndarray]:
        children = parent + np.array([[1], [-1]])
        return children, -np.abs(children[:, 0] - 5.0)

    found = local_search(np.array([[0], [1]]), np.array([-5.0, -4.0]), children_of, rounds=10)
    assert found.tolist() == [5]


def test_the_farthest_point_has_the_largest_distance_to_its_nearest() -> None:
    codes = np.array([[0, 0, 0], [0, 1, 1], [1, 1, 1]])
    assert farthest(codes, np.array([[0, 0, 0]])) == 2
    assert farthest(codes, np.array([[0, 0, 0], [1, 1, 1]])) == 1
    assert farthest(codes, codes[:0]) == 0


def test_van_der_corput_numbers() -> None:
    assert [van_der_corput(n) for n in range(8)] == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]
