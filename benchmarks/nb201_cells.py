"""NAS-Bench-201 cells as tables of kernels: what a runtime executes of each, live branches and dead ones apart.

The space (arXiv 2001.00326): four nodes, six edges, five operations; 15 equal cells in three stages of 16, 32 and 64
channels, with residual reduction blocks that no choice changes. So a kernel of a cell occurs in 15 places, and the
total of any operation is one price times its count in the cell: launches, arithmetic and bytes need no columns apart.

A convolution is ReLU, convolution, batch normalisation. After fusion it is one kernel, but for the ReLU where the
tensor it reads has other readers too. A sum is fused into a convolution that feeds it; further summands are kernels.

An edge is live on a path from input to output. Others differ by runtime. Compilers drop what nothing reads; some also
fold what depends on no input, others execute it, on zeros. Eager runtimes execute all, also the multiplication by zero
that stands for `none`.
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
READINGS = {  # which of the edges that are not live are executed: (fed by zeros only, read by nothing)
    "live": (False, False),
    "reaches the output": (True, False),
    "depends on the input": (False, True),
    "all": (True, True),
}
STAGES = ((16, 32), (32, 16), (64, 8))  # channels, side
CELLS = 5


@dataclass(frozen=True)
class Cells:
    """Cells and what they execute.

    Attributes:
        operations: [n, 6] operation of each edge.
        connected: [n] whether there is a path from input to output.
        columns: [n, k] kernels in the order of `names`.
        names: of the columns.
    """

    operations: Ops
    connected: Bools
    columns: Floats
    names: tuple[str, ...]


def read_operations(table: pd.DataFrame) -> Ops:
    """[n, 6] The operation of each edge, from the columns `op_0_1` ... `op_2_3` or else from `arch_str`.

    Raises:
        ValueError: the table has neither, or an operation is unknown.
    """
    if set(COLUMNS) <= set(table.columns):
        found = table[list(COLUMNS)].to_numpy(dtype=int)
    elif "arch_str" in table.columns:
        found = np.array([_parse(text) for text in table["arch_str"]])
    else:
        raise ValueError(f"a table needs the columns {', '.join(COLUMNS)} or arch_str, but has {list(table.columns)}")
    if found.min() < 0 or found.max() > POOL:
        raise ValueError(f"operations must be 0..{POOL}, but got {found.min()}..{found.max()}")
    return found


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file, also compressed. Where there is none, the process ends with a line that says so."""
    if not path.is_file():
        raise SystemExit(f"{path} must be a table (.csv or .csv.gz), but there is no such file")
    return pd.read_csv(path)


def _parse(text: str) -> list[int]:
    words = [edge.partition("~")[0] for node in text.split("+") for edge in node.strip("|").split("|")]
    return [OPERATIONS.index(word) for word in words]


def cells(operations: Ops) -> Cells:
    """The kernels of each cell: of live edges, of those fed by zeros only, and of those that nothing reads."""
    real = operations != NONE
    fed, read = _fed(real), _read(real)
    live = real & fed[:, SOURCE] & read[:, TARGET]
    reaching, depending = real & read[:, TARGET], real & fed[:, SOURCE]
    every = np.ones_like(fed)
    counts = {
        "live": _count(operations, live, fed & read),
        "reaches the output": _count(operations, reaching, read),
        "depends on the input": _count(operations, depending, fed),
        "all": _count(operations, real, every),
    }
    zeros = counts["reaches the output"] - counts["live"]
    unread = counts["all"] - counts["reaches the output"]
    ones = np.ones((len(operations), 1))
    nones = (~real).sum(axis=1, keepdims=True)
    names = ("fixed", "none", *(f"{what}.{k}" for what in ("live", "on zeros", "unread") for k in KERNELS))
    columns = np.concatenate([ones, nones, counts["live"], zeros, unread], axis=1)
    return Cells(operations=operations, connected=live.any(axis=1), columns=columns.astype(np.float64), names=names)


def ties() -> list[Floats]:
    """Prior structures [k, t]: for each reading one price per kernel, dead or not; and coarser, by work and launches.

    `depends on the input` shares the column of unread edges with `all`, which is nearly the same.
    """
    return [_tie(zeros, unread, coarse) for zeros, unread in READINGS.values() for coarse in (True, False)]


def alike(operations: Ops, columns: Floats) -> Ops:
    """[n] A number for each cell, the same for cells that execute the same graph.

    They are isomorphic on the edges that lead from input to output, and have the same kernels elsewhere. Skip
    connections change no tensor, and sums have no order.
    """
    words = [f"{_expression(row)} {kernels}" for row, kernels in zip(operations, map(tuple, columns), strict=True)]
    return np.unique(words, return_inverse=True)[1]


def macs(operations: Ops) -> Floats:
    """[n] Multiply-accumulates of the whole nets on CIFAR-10, dead edges included, as published tables count."""
    spent = {CONV1: 1, CONV3: 9}
    per_unit = sum(CELLS * side**2 * width**2 for width, side in STAGES)
    stem = 3 * 16 * 9 * 32**2
    blocks = sum(
        side**2 * (9 * half * width + 9 * width * width + half * width)
        for (half, _), (width, side) in itertools.pairwise(STAGES)
    )
    body = np.sum([cost * (operations == kind).sum(axis=1) for kind, cost in spent.items()], axis=0)
    found: Floats = np.float64(stem + blocks + 64 * 10) + np.float64(per_unit) * body
    return found


def one_hot(operations: Ops) -> Floats:
    """[n, 30] One column for each operation on each edge."""
    return np.concatenate([operations == kind for kind in range(len(OPERATIONS))], axis=1).astype(np.float64)


def _expression(row: Ops) -> str:
    """What the output of a cell is of its input x; empty where it is of no input."""
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


def _fed(real: Bools) -> Bools:
    """[n, 4] Which nodes depend on the input."""
    found = np.ones((len(real), 4), dtype=bool)
    for node in (1, 2, 3):
        edges = np.flatnonzero(node == TARGET)
        found[:, node] = (real[:, edges] & found[:, SOURCE[edges]]).any(axis=1)
    return found


def _read(real: Bools) -> Bools:
    """[n, 4] Which nodes the output depends on."""
    found = np.ones((len(real), 4), dtype=bool)
    for node in (2, 1, 0):
        edges = np.flatnonzero(node == SOURCE)
        found[:, node] = (real[:, edges] & found[:, TARGET[edges]]).any(axis=1)
    return found


def _count(operations: Ops, executed: Bools, nodes: Bools) -> Floats:
    """[n, 7] Kernels of the edges executed, in the order of `KERNELS`."""
    convolution = ((operations == CONV1) | (operations == CONV3)) & executed
    found = [((operations == kind) & executed).sum(axis=1) for kind in (CONV1, CONV3, POOL, SKIP)]
    sums, relus = np.zeros(len(operations), dtype=int), np.zeros(len(operations), dtype=int)
    for node in (1, 2, 3):
        edges = np.flatnonzero(node == TARGET)
        summands = executed[:, edges].sum(axis=1) - 1
        sums += np.maximum(np.maximum(summands, 0) - convolution[:, edges].sum(axis=1), 0)
    for node in (0, 1, 2):
        edges = np.flatnonzero(node == SOURCE)
        relus += np.where(executed[:, edges].sum(axis=1) == 1, 0, convolution[:, edges].sum(axis=1))
    return np.stack([*found, sums, relus, nodes[:, 1:3].sum(axis=1)], axis=1).astype(np.float64)


def _tie(zeros: bool, unread: bool, coarse: bool) -> Floats:
    kernels = len(KERNELS)
    shares = np.concatenate([np.eye(kernels), zeros * np.eye(kernels), unread * np.eye(kernels)])  # [21, 7]
    if coarse:  # arithmetic, launches
        work = np.array([[1, 9, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 0]], dtype=float).T
        shares = shares @ work
    own = np.zeros((2, 2 + shares.shape[1]))
    own[0, 0], own[1, 1] = 1, float(zeros and unread)
    return np.concatenate([own, np.concatenate([np.zeros((len(shares), 2)), shares], axis=1)])
