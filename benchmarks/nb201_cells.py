"""NAS-Bench-201 cells as counts of the kernels that a runtime executes, with live and dead branches separate.

The space (arXiv 2001.00326) has four nodes, six edges and five operations. A net has 15 equal cells in three stages of
16, 32 and 64 channels, and residual reduction blocks that no choice changes. A kernel of a cell thus occurs in 15 fixed
places, and its total cost is one price times its count in the cell. Launches, arithmetic and bytes need no columns of
their own.

A convolution is ReLU, convolution, batch normalisation. Fused, it is one kernel, except for the ReLU of a tensor with
other readers. One summand of a sum is fused into a convolution that feeds it; every further summand is a kernel.

An edge is live if it lies on a path from input to output. Runtimes differ in the others. Compilers drop edges that
nothing reads; edges that do not depend on the input are constant-folded by some and executed on zeros by others. Eager
runtimes execute all edges, including the multiplication by zero that stands for `none`.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ops = npt.NDArray[np.int_]

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
SOURCE, TARGET = (np.array(side) for side in zip(*EDGES, strict=True))
NONE, SKIP, CONV1, CONV3, POOL = range(5)
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
COLUMNS = tuple(f"op_{a}_{b}" for a, b in EDGES)

KERNELS = ("conv1x1", "conv3x3", "pool", "skip", "sum", "relu", "node")
READINGS = {  # which dead edges are executed: (those fed by zeros only, those that nothing reads)
    "live": (False, False),
    "reaches the output": (True, False),
    "depends on the input": (False, True),
    "all": (True, True),
}
STAGES = ((16, 32), (32, 16), (64, 8))  # channels, side
CELLS = 5


@dataclass(frozen=True)
class Cells:
    """Cells and the kernels that they execute.

    Attributes:
        operations: [n, 6] operation of each edge.
        connected: [n] whether there is a path from input to output.
        columns: [n, k] kernel counts in the order of `names`.
        names: of the columns.
    """

    operations: Ops
    connected: Bools
    columns: Floats
    names: tuple[str, ...]


def read_operations(table: pd.DataFrame) -> Ops:
    """Operations [n, 6] of the edges, from the columns `op_0_1` ... `op_2_3` or else from `arch_str`.

    Raises:
        ValueError: the table has neither, or an operation is unknown.
    """
    if set(COLUMNS) <= set(table.columns):
        operations = table[list(COLUMNS)].to_numpy(dtype=int)
    elif "arch_str" in table.columns:
        operations = np.array([_parse(text) for text in table["arch_str"]])
    else:
        raise ValueError(f"a table needs the columns {', '.join(COLUMNS)} or arch_str, but has {list(table.columns)}")
    if operations.min() < 0 or operations.max() > POOL:
        raise ValueError(f"operations must be 0..{POOL}, but got {operations.min()}..{operations.max()}")
    return operations


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file, possibly compressed.

    Raises:
        SystemExit: there is no such file.
    """
    if not path.is_file():
        raise SystemExit(f"{path} must be a table (.csv or .csv.gz), but there is no such file")
    return pd.read_csv(path)


def _parse(text: str) -> list[int]:
    words = [edge.partition("~")[0] for node in text.split("+") for edge in node.strip("|").split("|")]
    return [OPERATIONS.index(word) for word in words]


def cells(operations: Ops) -> Cells:
    """The kernels of each cell: of live edges, of edges fed by zeros only, and of edges that nothing reads."""
    present = operations != NONE
    fed, read = _fed(present), _read(present)
    live = present & fed[:, SOURCE] & read[:, TARGET]
    reaching, depending = present & read[:, TARGET], present & fed[:, SOURCE]
    all_nodes = np.ones_like(fed)
    counts = {
        "live": _count(operations, live, fed & read),
        "reaches the output": _count(operations, reaching, read),
        "depends on the input": _count(operations, depending, fed),
        "all": _count(operations, present, all_nodes),
    }
    zeros = counts["reaches the output"] - counts["live"]
    unread = counts["all"] - counts["reaches the output"]
    ones = np.ones((len(operations), 1))
    nones = (~present).sum(axis=1, keepdims=True)
    names = ("fixed", "none", *(f"{what}.{k}" for what in ("live", "on zeros", "unread") for k in KERNELS))
    columns = np.concatenate([ones, nones, counts["live"], zeros, unread], axis=1)
    return Cells(operations=operations, connected=live.any(axis=1), columns=columns.astype(np.float64), names=names)


def ties() -> list[Floats]:
    """Prior structures [k, t] that tie the columns' prices to t parameters.

    For each reading there are two: one price per kernel, live or dead; and a coarser one, by arithmetic and launches.
    `depends on the input` shares the column of unread edges with `all`, which is nearly the same.
    """
    return [_tie(zeros, unread, coarse) for zeros, unread in READINGS.values() for coarse in (True, False)]


def alike(operations: Ops, columns: Floats) -> Ops:
    """Labels [n], equal for cells that execute the same graph.

    Such cells are isomorphic on the edges between input and output and have the same other kernels. Skip connections
    change no tensor, and sums are commutative.
    """
    words = [f"{_expression(row)} {kernels}" for row, kernels in zip(operations, map(tuple, columns), strict=True)]
    return np.unique(words, return_inverse=True)[1]


def macs(operations: Ops) -> Floats:
    """Multiply-accumulates [n] of whole nets on CIFAR-10 with dead edges, as in published tables."""
    macs_per_unit = {CONV1: 1, CONV3: 9}
    per_unit = sum(CELLS * side**2 * width**2 for width, side in STAGES)
    stem = 3 * 16 * 9 * 32**2
    blocks = sum(
        side**2 * (9 * half * width + 9 * width * width + half * width)
        for (half, _), (width, side) in itertools.pairwise(STAGES)
    )
    body = np.sum([cost * (operations == kind).sum(axis=1) for kind, cost in macs_per_unit.items()], axis=0)
    total: Floats = np.float64(stem + blocks + 64 * 10) + np.float64(per_unit) * body
    return total


def one_hot(operations: Ops) -> Floats:
    """One-hot operations [n, 30] of all edges."""
    return np.concatenate([operations == kind for kind in range(len(OPERATIONS))], axis=1).astype(np.float64)


def _expression(row: Ops) -> str:
    """The output of a cell as an expression in its input x; empty if it does not depend on it."""
    nodes = ["x", "", "", ""]
    wrapped = {SKIP: "{}", CONV1: "1({})", CONV3: "3({})", POOL: "p({})"}
    for target in (1, 2, 3):
        parts = [
            wrapped[int(row[k])].format(nodes[source])
            for k, (source, end) in enumerate(EDGES)
            if end == target and row[k] != NONE and nodes[source]
        ]
        nodes[target] = parts[0] if len(parts) == 1 else f"({'+'.join(sorted(parts))})" if parts else ""
    return nodes[3]


def _fed(present: Bools) -> Bools:
    """Whether each node [n, 4] depends on the input."""
    fed = np.ones((len(present), 4), dtype=bool)
    for node in (1, 2, 3):
        edges = np.flatnonzero(node == TARGET)
        fed[:, node] = (present[:, edges] & fed[:, SOURCE[edges]]).any(axis=1)
    return fed


def _read(present: Bools) -> Bools:
    """Whether the output depends on each node [n, 4]."""
    read = np.ones((len(present), 4), dtype=bool)
    for node in (2, 1, 0):
        edges = np.flatnonzero(node == SOURCE)
        read[:, node] = (present[:, edges] & read[:, TARGET[edges]]).any(axis=1)
    return read


def _count(operations: Ops, executed: Bools, nodes: Bools) -> Floats:
    """Numbers [n, 7] of kernels of the executed edges, in the order of `KERNELS`."""
    convolution = ((operations == CONV1) | (operations == CONV3)) & executed
    counts = [((operations == kind) & executed).sum(axis=1) for kind in (CONV1, CONV3, POOL, SKIP)]
    sums, relus = np.zeros(len(operations), dtype=int), np.zeros(len(operations), dtype=int)
    for node in (1, 2, 3):
        edges = np.flatnonzero(node == TARGET)
        summands = executed[:, edges].sum(axis=1) - 1
        sums += np.maximum(np.maximum(summands, 0) - convolution[:, edges].sum(axis=1), 0)
    for node in (0, 1, 2):
        edges = np.flatnonzero(node == SOURCE)
        relus += np.where(executed[:, edges].sum(axis=1) == 1, 0, convolution[:, edges].sum(axis=1))
    return np.stack([*counts, sums, relus, nodes[:, 1:3].sum(axis=1)], axis=1).astype(np.float64)


def _tie(zeros: bool, unread: bool, coarse: bool) -> Floats:
    kernels = len(KERNELS)
    shares = np.concatenate([np.eye(kernels), zeros * np.eye(kernels), unread * np.eye(kernels)])  # [21, 7]
    if coarse:  # arithmetic, launches
        work = np.array([[1, 9, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 0]], dtype=float).T
        shares = shares @ work
    own = np.zeros((2, 2 + shares.shape[1]))
    own[0, 0], own[1, 1] = 1, float(zeros and unread)
    return np.concatenate([own, np.concatenate([np.zeros((len(shares), 2)), shares], axis=1)])
