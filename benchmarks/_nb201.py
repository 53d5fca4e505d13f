"""A NAS-Bench-201 table as a search problem: six edges with five operations each, two columns as objectives.

The table is a CSV (.csv or .csv.gz) with one row per cell and either the column `arch_str` or the six columns `op_0_1`
... `op_2_3` (0 none, 1 skip, 2 conv1x1, 3 conv3x3, 4 avgpool). A cell is connected if a path without `none` leads from
its input to its output. A cell is feasible if it is connected and has a value in both columns.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from optuna.distributions import CategoricalDistribution

from nas.pareto import hypervolume, non_dominated

FloatArray = npt.NDArray[np.float64]
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
GENES = tuple(f"op_{a}_{b}" for a, b in EDGES)
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SPACE = {name: CategoricalDistribution(OPERATIONS) for name in GENES}
MAXIMIZE = (True, False)
Configurations = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Nb201Table:
    """One search problem over all 15,625 cells.

    Attributes:
        values: [15625, 2] accuracy (maximised) and latency (minimised) by cell index; NaN where infeasible.
        low_fidelity_accuracy: [15625] accuracy after a short training, NaN where the table has none.
        feasible: [15625] bool.
        live_edges: [15625, 6] bool, whether an edge is on a path from input to output.
        ref_point: the lowest accuracy and the highest latency among feasible cells.
        max_hypervolume: hypervolume of the true front against `ref_point`.
    """

    values: FloatArray
    low_fidelity_accuracy: FloatArray
    feasible: npt.NDArray[np.bool_]
    live_edges: npt.NDArray[np.bool_]
    ref_point: tuple[float, float]
    max_hypervolume: float

    def hypervolume_share(self, codes: Sequence[int]) -> float:
        """Share 0..1 of the true hypervolume that these cells dominate."""
        return self.hypervolume_share_of(self.values[list(codes)])

    def hypervolume_share_of(self, values: FloatArray) -> float:
        """The same for values [n, 2]."""
        return hypervolume(values, self.ref_point, MAXIMIZE) / self.max_hypervolume

    def front(self) -> FloatArray:
        """The true front [k, 2]."""
        return self.values[non_dominated(self.values, MAXIMIZE)]


def read_table(path: Path, accuracy: str, latency: str, low_fidelity_accuracy: str | None = None) -> Nb201Table:
    """The search problem with two columns of a table as its objectives.

    Raises:
        SystemExit: a column is missing, or no cell has both values.
    """
    frame = pd.read_csv(path)
    missing = [c for c in (accuracy, latency, low_fidelity_accuracy) if c is not None and c not in frame]
    if missing or not ("arch_str" in frame or set(GENES) <= set(frame)):
        raise SystemExit(f"{path} must have the columns {missing or ['arch_str']}, but has {', '.join(frame)}")
    if set(GENES) <= set(frame):
        rows = frame[list(GENES)].to_numpy(dtype=np.int64)
    else:
        rows = np.array([_parse_operations(text) for text in frame["arch_str"]])
    codes = rows @ _RADIX
    cells = np.array(np.unravel_index(np.arange(5**6), (5,) * 6)).T
    live = live_edges(cells)
    values = np.full((5**6, 2), np.nan)
    values[codes] = frame[[accuracy, latency]].to_numpy(dtype=np.float64)
    values[~live.any(axis=1)] = np.nan
    feasible = np.isfinite(values).all(axis=1)
    if not feasible.any():
        raise SystemExit(f"{path} holds no connected cell with both {accuracy} and {latency}")
    values[~feasible] = np.nan
    low_fidelity = np.full(5**6, np.nan)
    if low_fidelity_accuracy is not None:
        low_fidelity[codes] = frame[low_fidelity_accuracy].to_numpy(dtype=np.float64)
    reference = (float(values[feasible, 0].min()), float(values[feasible, 1].max()))
    return Nb201Table(values, low_fidelity, feasible, live, reference, hypervolume(values, reference, MAXIMIZE))


_RADIX = 5 ** np.arange(5, -1, -1)
_CODE_BY_OPERATION = [
    (g, {o: i * p for i, o in enumerate(OPERATIONS)}) for g, p in zip(GENES, _RADIX.tolist(), strict=True)
]


def cell_index(configuration: Mapping[str, Any]) -> int:
    """The index of a cell, 0..15624: its operations as digits in base 5."""
    return sum([codes[configuration[gene]] for gene, codes in _CODE_BY_OPERATION])


def live_edges(cells: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each edge [n, 6] of cells [n, 6] is on a path from node 0 to node 3."""
    present = cells != 0
    reached, leads_out = (
        [np.zeros(len(cells), dtype=bool) for _ in range(4)],
        [np.zeros(len(cells), bool) for _ in range(4)],
    )
    reached[0][:], leads_out[3][:] = True, True
    for k, (a, b) in enumerate(EDGES):  # in the order of their targets, so that one pass suffices
        reached[b] |= reached[a] & present[:, k]
    for k, (a, b) in sorted(enumerate(EDGES), key=lambda e: -e[1][0]):
        leads_out[a] |= leads_out[b] & present[:, k]
    return np.stack([present[:, k] & reached[a] & leads_out[b] for k, (a, b) in enumerate(EDGES)], axis=1)


def cell_features(cells: npt.NDArray[np.int64], live_edges: npt.NDArray[np.bool_]) -> FloatArray:
    """Features [n, 30] of cells, from live edges only.

    They are the number of each operation but `none` (4), the largest number of convolutions in a row, the number of
    live edges, and the one-hot operation of each edge (24).
    """
    counts = [((cells == o) & live_edges).sum(axis=1) for o in range(1, 5)]
    # -9 keeps a node without a live path below every real depth, whatever is added to it
    depth = [np.zeros(len(cells))] + [np.full(len(cells), -9.0) for _ in range(3)]
    for k, (a, b) in enumerate(EDGES):
        longer = depth[a] + np.isin(cells[:, k], (2, 3))
        depth[b] = np.where(live_edges[:, k], np.maximum(depth[b], longer), depth[b])
    one_hot = [(cells[:, k] == o) & live_edges[:, k] for k in range(6) for o in range(1, 5)]
    return np.stack([*counts, np.maximum(depth[3], 0), live_edges.sum(axis=1), *one_hot], axis=1).astype(np.float64)


def sampler_context(table: Nb201Table) -> dict[str, Any]:
    """Keyword arguments of `ScreenedSampler`: a cell's latency, connectedness and features, known before training."""
    cells = np.array(np.unravel_index(np.arange(5**6), (5,) * 6)).T
    features = cell_features(cells, table.live_edges)

    def codes(picks: Configurations) -> list[int]:
        return [cell_index(p) for p in picks]

    def cheap(picks: Configurations) -> FloatArray:
        return np.stack([np.full(len(picks), np.nan), table.values[codes(picks), 1]], axis=1)

    return {
        "known_objectives": cheap,
        "features": lambda picks: features[codes(picks)],
        "allowed": lambda picks: table.feasible[codes(picks)],
    }


def _parse_operations(text: str) -> list[int]:
    """The six operations of an architecture string, in the order of `EDGES`."""
    operations = {
        (int(b), j): a for j, node in enumerate(text.split("+"), 1) for a, b in re.findall(r"([\w]+)~(\d)", node)
    }
    return [OPERATIONS.index(operations[edge]) for edge in EDGES]
