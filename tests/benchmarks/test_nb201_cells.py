"""Kernel counts against a slow walk over all paths, and latency prediction on tables with planted prices."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import latency_prediction
from benchmarks import nb201_cells as nb201

ALL = np.array(list(product(range(5), repeat=6)))
CELLS = nb201.cells(ALL)
SOME = ALL[::97]


def column(name: str, rows: np.ndarray = ALL) -> np.ndarray:
    return nb201.cells(rows).columns[:, CELLS.names.index(name)]


def live_edges(cell: np.ndarray) -> set[int]:
    """Edges on any path from node 0 to node 3, by enumerating all paths."""
    edges: set[int] = set()

    def walk(node: int, path: tuple[int, ...]) -> None:
        if node == 3:
            edges.update(path)
        for edge, (a, b) in enumerate(nb201.EDGES):
            if a == node and cell[edge] != nb201.NONE:
                walk(b, (*path, edge))

    walk(0, ())
    return edges


def test_live_kernels_are_on_a_path() -> None:
    for word, kind in (("conv1x1", nb201.CONV1), ("conv3x3", nb201.CONV3), ("pool", nb201.POOL), ("skip", nb201.SKIP)):
        expected = [sum(cell[e] == kind for e in live_edges(cell)) for cell in SOME]
        assert column(f"live.{word}", SOME).tolist() == expected


def test_connected_cells_have_a_path() -> None:
    assert nb201.cells(SOME).connected.tolist() == [bool(live_edges(cell)) for cell in SOME]
    assert (~CELLS.connected).sum() == 341  # of 15,625, the number that published tables leave out


def test_live_zero_fed_and_unread_kernels_sum_to_all() -> None:
    for word, kind in (("conv1x1", nb201.CONV1), ("conv3x3", nb201.CONV3), ("pool", nb201.POOL), ("skip", nb201.SKIP)):
        parts = sum(column(f"{what}.{word}") for what in ("live", "on zeros", "unread"))
        assert parts.tolist() == (kind == ALL).sum(axis=1).tolist()


def test_a_sum_is_fused_into_a_convolution_that_feeds_it() -> None:
    skips, convs = [[1, 1, 1, 1, 1, 1]], [[1, 1, 1, 2, 3, 2]]
    assert column("live.sum", np.array(skips))[0] == 3  # two summands at node 2, three at node 3
    assert column("live.sum", np.array(convs))[0] == 1  # the sums of node 3 are fused into its convolutions


def test_a_relu_is_fused_where_its_tensor_has_one_reader() -> None:
    assert column("live.relu", np.array([[2, 0, 0, 0, 2, 0]]))[0] == 0
    assert column("live.relu", np.array([[2, 2, 0, 0, 2, 2]]))[0] == 2


@pytest.mark.data
def test_macs_equal_the_published_ones(shared_data: Path) -> None:
    table = nb201.read_table(shared_data / "nb201" / "nb201_cifar10.csv.gz")
    assert nb201.macs(nb201.read_operations(table)) == pytest.approx(table["c10_macs"].to_numpy(dtype=float), rel=1e-5)


def test_operations_are_read_from_columns_or_from_arch_str() -> None:
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_3x3~0|none~1|skip_connect~2|"
    assert nb201.read_operations(pd.DataFrame({"arch_str": [text]})).tolist() == [[4, 2, 1, 3, 0, 1]]
    columns = pd.DataFrame([[4, 2, 1, 3, 0, 1]], columns=list(nb201.COLUMNS))
    assert nb201.read_operations(columns).tolist() == [[4, 2, 1, 3, 0, 1]]


@pytest.mark.parametrize("table", [pd.DataFrame({"x": [1]}), pd.DataFrame([[9] * 6], columns=list(nb201.COLUMNS))])
def test_other_tables_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"needs the columns|must be 0\.\.4"):
        nb201.read_operations(table)


@pytest.mark.parametrize("reading", list(nb201.READINGS))
def test_prediction_adapts_to_what_a_runtime_executes(reading: str) -> None:
    rows = np.flatnonzero(CELLS.connected)[::29]
    tie = nb201.ties()[2 * list(nb201.READINGS).index(reading) + 1]
    prices = tie @ np.array([5.0, 0.3, 2.0, 4.0, 1.0, 0.1, 0.5, 0.5, 0.2])
    values = (CELLS.columns @ prices) * np.random.default_rng(0).normal(1, 0.01, len(ALL))
    found = latency_prediction.study(CELLS, values, rows, samples=[50], seeds=2, with_forest=False)["50"]
    assert found["learned roofline"]["spearman"] > 0.98
    assert found["learned roofline"]["mean_error"] < 0.05
    assert found["learned roofline"]["spearman"] > found["ridge on one-hot edges"]["spearman"]


def test_ridge_recovers_a_planted_log_linear_model() -> None:
    random = np.random.default_rng(0)
    columns, unseen = random.normal(size=(60, 4)), random.normal(size=(20, 4))
    weights = np.array([0.2, -0.1, 0.0, 0.3])
    assert latency_prediction.ridge(columns, np.exp(columns @ weights + 1), unseen) == pytest.approx(
        np.exp(unseen @ weights + 1), rel=0.01
    )


def labels_of(*rows: tuple[int, ...]) -> list[int]:
    operations = np.array(rows)
    return nb201.alike(operations, nb201.cells(operations).columns).tolist()


def test_cells_that_execute_the_same_graph_have_the_same_label() -> None:
    skip, conv, pool = nb201.SKIP, nb201.CONV3, nb201.POOL
    one, mirrored, other = (
        (conv, pool, 0, skip, skip, skip),
        (pool, conv, 0, skip, skip, skip),
        (conv, conv, 0, 1, 1, 1),
    )
    found = labels_of(one, mirrored, other)
    assert found[0] == found[1] != found[2]
    through_a_copy = labels_of((skip, conv, 0, 0, skip, skip), (skip, 0, conv, 0, skip, skip))
    assert through_a_copy[0] == through_a_copy[1]


def test_a_dead_branch_changes_the_label() -> None:
    live = (0, 0, 0, nb201.CONV3, 0, 0)
    assert len(set(labels_of(live, (nb201.CONV3, 0, 0, nb201.CONV3, 0, 0)))) == 2


def test_the_ceiling_is_reached_by_the_true_latencies() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(2000), 4)
    true = random.normal(0, 0.5, 2000)[labels]
    values = np.exp(true + random.normal(0, 0.1, len(labels)))
    spread, ceiling = latency_prediction.repeatability(values, labels)
    assert spread == pytest.approx(0.1, rel=0.05)
    assert ceiling == pytest.approx(latency_prediction.rank_correlation(true, values), abs=0.003)


def test_repeatability_is_nan_without_equal_cells() -> None:
    assert np.isnan(latency_prediction.repeatability(np.array([1.0, 2.0, 3.0]), np.arange(3))).all()
