"""A profile's constants against published latencies of NAS-Bench-201 cells and FBNet operators, without learning.

    python -m benchmarks.device_tables --target raspberry-pi-4 --cells nb201_cifar10.csv.gz \\
        --operators fbnet_op_lut.csv.gz [--fit]      # their columns raspi4_fp32_ms and raspi4_latency_ms
    python -m benchmarks.device_tables --target cuda --cells nb201_cifar10.csv.gz --cells-column gtx1080ti_fp32_ms \\
        --reading all

Cells (arXiv 2001.00326) are whole nets; operators are the blocks of HW-NAS-Bench's table (arXiv 2103.10584). Both are
represented by the kernels that `nas.latency.costs` would find in them, in FP32. As in `nas.latency.predicted.roofline`,
they cost a fixed time, a floor per kernel, arithmetic and traffic. `--reading` states which dead edges were executed
(see nb201_cells): TensorFlow Lite executes those that are fed zeros only, an eager runtime all.

`--fit` fits the constants by non-negative least squares of the relative error (no share above 1), with equal weight for
both tables. It is validated on a random half of each table and on each whole table, left out of the fit. A kernel kind
that the other rows do not contain keeps its constant. So does the fixed time, which is a property of the runtime, and
these tables were measured with other runtimes.
"""

import argparse
import json
import re
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks import nb201_cells as nb201
from benchmarks.latency_prediction import rank_correlation
from hw_profiles._base import HardwareProfile, LatencyModel
from nas.latency.costs import Kernel
from nas.latency.predicted.arithmetic import padded_macs, peak_gops
from nas.latency.predicted.learned_roofline import conformal_half_width
from nas.latency.predicted.nnls import nnls
from nas.targets.catalog import load_target

Floats = npt.NDArray[np.float64]

KINDS = ("conv", "pointwise", "depthwise", "grouped", "linear", "memory")
NAMES = ("fixed_us", "floor_us", *KINDS)
"""Columns of the features. A coefficient is microseconds, or the inverse of the reached share of the peak."""
_OPERATOR = re.compile(
    r"(?P<op>ConvBlock|ConvNorm|AvgP|Skip|FC)(?:_H(?P<h>\d+)_W\d+)?_Cin(?P<cin>\d+)_Cout(?P<cout>\d+)"
    r"(?:_exp(?P<exp>\d+))?(?:_kernel(?P<kernel>\d+))?(?:_stride(?P<stride>\d+))?(?:_group(?P<group>\d+))?$"
)


@dataclass(frozen=True)
class Table:
    """Published latencies of one kind of net.

    Attributes:
        name: of the kind.
        features: [n, 8] in the order of `NAMES`.
        published_ms: [n].
    """

    name: str
    features: Floats
    published_ms: Floats

    def some(self, rows: npt.NDArray[np.bool_], name: str) -> "Table":
        """The rows that a mask [n] selects."""
        return Table(name, self.features[rows], self.published_ms[rows])


def features(kernels: list[Kernel], profile: HardwareProfile, *, fixed: bool) -> Floats:
    """Cost features [8] of kernels: launches of the net and of kernels, microseconds of work and traffic at the peak.

    Args:
        kernels: of a net or of a part of one.
        profile: with the peak rates.
        fixed: whether the fixed time of a whole net counts.
    """
    totals = np.zeros(len(NAMES))
    totals[0] = float(fixed)
    for kernel in kernels:
        totals[1] += 1
        if kernel.macs:
            rate = peak_gops(profile, kernel.bits) * 1e3
            totals[NAMES.index(kernel.kind)] += 2 * padded_macs(kernel, profile.channel_multiple) / rate
        moved = kernel.input_bytes + kernel.output_bytes + kernel.weight_bytes
        totals[-1] += moved / (profile.bandwidth_gb_s * 1e3)
    return totals


def coefficients(model: LatencyModel) -> Floats:
    """A profile's coefficients [8], in the order of `NAMES`."""
    return np.array([model.fixed_us, model.floor_us, *(1 / model.efficiency.get(kind, 1.0) for kind in KINDS)])


def convolution(side: int, cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> Kernel:
    """A convolution with `same` padding, fused with its bias and activation; `side` is that of its input."""
    out = -(-side // stride)
    kind = "depthwise" if groups == cin > 1 else "grouped" if groups > 1 else "pointwise" if kernel == 1 else "conv"
    macs = out**2 * cin * cout * kernel**2 // groups
    weights = cin * cout * kernel**2 // groups + cout
    return replace(
        moving(side**2 * cin, out**2 * cout), kind=kind, macs=macs, weight_bytes=4 * weights, in_channels=cin,
        out_channels=cout, groups=groups,
    )  # fmt: skip


def moving(read: int, written: int) -> Kernel:
    """A kernel without arithmetic that reads and writes so many FP32 values."""
    return Kernel(
        name="", kind="elementwise", macs=0, input_bytes=4 * read, output_bytes=4 * written, weight_bytes=0, bits=32
    )


def linear(cin: int, cout: int) -> Kernel:
    """A linear layer applied to one vector."""
    return replace(convolution(1, cin, cout), kind="linear")


def cell_kernels(name: str) -> list[Kernel]:
    """The kernels that one kernel of a cell, a name in `nb201.KERNELS`, becomes in a net of 15 cells."""
    kernels = []
    for width, side in nb201.STAGES:
        size = width * side**2
        kernel = {
            "conv1x1": convolution(side, width, width),
            "conv3x3": convolution(side, width, width, kernel=3),
            "pool": moving(size, size),
            "sum": moving(2 * size, size),
            "relu": moving(size, size),
        }.get(name)
        kernels += [kernel] * nb201.CELLS if kernel else []  # a skip connection and a node launch nothing
    return kernels


def frame_kernels() -> list[Kernel]:
    """The kernels outside the cells: stem, two reduction blocks, classifier."""
    blocks = []
    for width, side in nb201.STAGES[1:]:
        wide, half = 2 * side, width // 2
        blocks += [
            convolution(wide, half, width, kernel=3, stride=2), convolution(side, width, width, kernel=3),
            moving(half * wide**2, half * side**2), convolution(side, half, width),
        ]  # fmt: skip
    width, side = nb201.STAGES[-1]
    size = width * side**2
    return [convolution(32, 3, 16, kernel=3), *blocks, moving(size, size), moving(size, width), linear(width, 10)]


def cells_table(path: Path, column: str, profile: HardwareProfile, reading: str) -> Table:
    """The latencies of connected cells."""
    table = nb201.read_table(path)
    parsed = nb201.cells(nb201.read_operations(table))
    values = _column(table, column, path)
    zeros, unread = nb201.READINGS[reading]
    per_kernel = np.array([features(cell_kernels(name), profile, fixed=False) for name in nb201.KERNELS])
    per_part = np.concatenate([per_kernel, zeros * per_kernel, unread * per_kernel])  # [21, 8]
    frame = features(frame_kernels(), profile, fixed=True)
    is_used = parsed.connected & np.isfinite(values) & (values > 0)
    return Table("cells", (parsed.columns[:, 2:] @ per_part + frame)[is_used], values[is_used])


def operator_kernels(key: str) -> list[Kernel]:
    """The kernels of an operator of HW-NAS-Bench's FBNet table.

    Raises:
        ValueError: the key is not that of an operator.
    """
    match = _OPERATOR.match(key)
    if not match:
        raise ValueError(f"an operator's key must be like Skip_H4_W4_Cin8_Cout8_stride1, but got {key!r}")
    side, cin, cout = int(match["h"] or 1), int(match["cin"]), int(match["cout"])
    size, stride, groups = int(match["kernel"] or 1), int(match["stride"] or 1), int(match["group"] or 1)
    if match["op"] == "FC":
        return [linear(cin, cout)]
    if match["op"] == "AvgP":
        return [moving(side**2 * cin, cin)]
    if match["op"] == "ConvNorm":
        return [convolution(side, cin, cout, kernel=size, stride=stride, groups=groups)]
    if match["op"] == "Skip":
        return (
            [convolution(side, cin, cout, stride=stride)] if cin != cout or stride > 1 else [moving(side**2 * cin, 0)]
        )
    wide = cin * int(match["exp"])
    return [
        convolution(side, cin, wide, groups=groups),
        convolution(side, wide, wide, kernel=size, stride=stride, groups=wide),
        convolution(-(-side // stride), wide, cout, groups=groups),
    ]


def operators_table(path: Path, column: str, profile: HardwareProfile) -> Table:
    """The latencies of operators with arithmetic."""
    table = nb201.read_table(path)
    values = _column(table, column, path)
    rows = np.array([features(operator_kernels(key), profile, fixed=False) for key in table["op_key"]])
    is_used = np.isfinite(values) & (values > 0) & (rows[:, 2:-1].sum(axis=1) > 0)
    return Table("operators", rows[is_used], values[is_used])


def fit(tables: list[Table], prior: Floats) -> Floats:
    """Coefficients [8] with the least squared relative error.

    `fixed_us` and columns that are zero in all tables keep the values of `prior`.
    """
    is_fitted = np.any([table.features.any(axis=0) for table in tables], axis=0) & (np.arange(len(NAMES)) > 0)
    lower_bounds = np.where(np.arange(len(NAMES)) < 2, 0.0, 1.0)  # an inverse share is at least 1
    fitted = np.where(is_fitted, lower_bounds, prior)
    # divided by the latency, residuals are relative errors; divided by sqrt(n), tables have equal weight
    rows = [t.features / (t.published_ms[:, None] * 1e3) / np.sqrt(len(t.published_ms)) for t in tables]
    target_parts = [np.full(len(t.published_ms), 1 / np.sqrt(len(t.published_ms))) for t in tables]
    matrix, targets = np.concatenate(rows), np.concatenate(target_parts)
    fitted[is_fitted] += nnls(matrix[:, is_fitted], targets - matrix @ fitted)
    return fitted


def figures(table: Table, constants: Floats) -> dict[str, float]:
    """Rank correlation, median of published over predicted, median error, and the half-width that covers 95 %."""
    predicted = table.features @ constants / 1e3
    ratio = table.published_ms / predicted
    return {
        "rows": len(ratio),
        "spearman": rank_correlation(predicted, table.published_ms),
        "median_ratio": statistics.median(ratio.tolist()),
        "median_error": statistics.median(np.abs(ratio - 1).tolist()),
        "interval": conformal_half_width(predicted / table.published_ms - 1),
    }


def study(tables: list[Table], prior: Floats, *, fitted: bool) -> dict[str, dict[str, float]]:
    """Figures of the constants as shipped and, if `fitted`, of fits without half of a table and without all of it."""
    results = {f"{t.name}, as shipped": figures(t, prior) for t in tables}
    if not fitted:
        return results
    for table in tables:
        half = np.random.default_rng(0).permutation(len(table.published_ms)) % 2 == 0
        rest = [t for t in tables if t is not table]
        constants = fit([table.some(half, table.name), *rest], prior)
        results[f"{table.name}, half left out"] = figures(table.some(~half, table.name), constants)
        if rest:
            results[f"{table.name}, all left out"] = figures(table, fit(rest, prior))
    return results


def describe(constants: Floats) -> dict[str, float]:
    """The coefficients in the form of a profile."""
    shares = {kind: 1 / value for kind, value in zip(KINDS, constants[2:], strict=True)}
    constants_by_name = {"fixed_us": constants[0], "floor_us": constants[1], **shares}
    return {name: float(f"{value:.3g}") for name, value in constants_by_name.items()}


def _column(table: pd.DataFrame, column: str, path: Path) -> Floats:
    if column not in table.columns:
        available = ", ".join(c for c in table.columns if c.endswith("_ms"))
        sys.exit(f"{path} must have the column {column!r}, but has no {column!r}; it has {available}")
    return table[column].to_numpy(dtype=np.float64)


def main() -> None:
    """Print the figures and, if requested, the fitted constants; write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--cells", type=Path)
    parser.add_argument("--cells-column", default="raspi4_fp32_ms")
    parser.add_argument("--reading", choices=list(nb201.READINGS), default="reaches the output")
    parser.add_argument("--operators", type=Path)
    parser.add_argument("--operators-column", default="raspi4_latency_ms")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    profile = load_target(args.target)
    if profile.latency is None or not (args.cells or args.operators):
        sys.exit(f"--cells or --operators must be given, and {args.target!r} must be a target with a latency model")
    tables = [cells_table(args.cells, args.cells_column, profile, args.reading)] if args.cells else []
    tables += [operators_table(args.operators, args.operators_column, profile)] if args.operators else []
    prior = coefficients(profile.latency)
    result = study(tables, prior, fitted=args.fit)
    for name, f in result.items():
        print(
            f"{name:28} {f['rows']:6} rows, rank correlation {f['spearman']:.3f}, published {f['median_ratio']:.2f} "
            f"times the prediction, median error {f['median_error']:4.0%}, 95 % within {f['interval']:4.0%}"
        )
    if args.fit:
        print(f"constants fitted to all rows: {describe(fit(tables, prior))}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
