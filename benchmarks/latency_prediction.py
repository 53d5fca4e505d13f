"""Latency of unmeasured NAS-Bench-201 cells predicted from a few measured ones.

    python -m benchmarks.latency_prediction --table nb201.csv.gz [--latency-column jetson_nano_fp32_ms ...] [--json OUT]

The figures are rank correlation, mean relative error and the share within 10 % on all cells outside the samples, for
each latency column of the table (all whose name ends in `_ms` by default), 10 to 200 samples and ten seeds. The methods
are the learned roofline, a line over multiply-accumulates, ridge regression on one-hot edges, and a random forest.
Cells without a path from input to output are left out, as in a search; `--all-cells` keeps them.

The table needs the six columns op_0_1 ... op_2_3 (0 none, 1 skip, 2 conv1x1, 3 conv3x3, 4 avgpool) or `arch_str`.

The bar is a rank correlation of 0.95 at 50 samples and 0.97 at 100. Three ceilings state what the table allows: the
same form fitted to the whole table; a forest fitted to 8,000 cells, on the rest; and the best possible predictor, since
cells that execute the same graph have different measured latencies.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: import siblings as `python -m benchmarks.X` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks import nb201_cells as nb201
from nas.latency.predicted.additive_fit import fit_additive

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int_]
Method = Callable[[Rows, Floats, Rows], Floats]  # rows to fit, their latencies, rows to predict; gives milliseconds

SAMPLES = (10, 20, 50, 100, 200)
BARS = {50: 0.95, 100: 0.97}
CEILING_CELLS = 8000
_STRENGTHS = np.logspace(-3, 3, 13)


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation; ties have their mean rank."""
    return float(np.corrcoef(pd.Series(a).rank(), pd.Series(b).rank())[0, 1])


def figures(predicted: Floats, true: Floats) -> dict[str, float]:
    """Rank correlation, mean relative error, and share 0..1 within 10 %."""
    errors = np.abs(predicted / true - 1)
    return {
        "spearman": rank_correlation(predicted, true),
        "mean_error": float(errors.mean()),
        "within_10": float((errors <= 0.1).mean()),
    }


def methods(cells: nb201.Cells) -> dict[str, Method]:
    """The learned roofline and its baselines, by name."""
    macs = np.stack([np.ones(len(cells.operations)), nb201.macs(cells.operations)], axis=1)
    one_hot = nb201.one_hot(cells.operations)

    def roofline(rows: Rows, values: Floats, held_out: Rows) -> Floats:
        predicted: Floats = (
            cells.columns[held_out] @ fit_additive(cells.columns[rows], values, ties, n_resamples=0).coefficients
        )
        return predicted

    def line(rows: Rows, values: Floats, held_out: Rows) -> Floats:
        scaled, ones = macs[rows] / values[:, None], np.ones(len(rows))
        intercept, slope = np.linalg.lstsq(scaled, ones, rcond=None)[0]
        if slope <= 0:  # more work cannot take less time: fit the slope alone
            intercept, slope = 0.0, float(scaled[:, 1].sum() / (scaled[:, 1] ** 2).sum())
        predicted: Floats = intercept + slope * macs[held_out, 1]
        return predicted

    ties = nb201.ties()
    return {
        "learned roofline": roofline,
        "MACs alone": line,
        "ridge on one-hot edges": lambda rows, values, held_out: ridge(one_hot[rows], values, one_hot[held_out]),
        "random forest": lambda rows, values, held_out: forest(one_hot[rows], values, one_hot[held_out]),
    }


def ridge(columns: Floats, values: Floats, held_out: Floats) -> Floats:
    """Ridge regression of log latency; its strength minimises the closed-form leave-one-out error."""
    target, mean = np.log(values), float(np.log(values).mean())
    centre = columns.mean(axis=0)
    # one singular value decomposition serves all strengths and the leverages of leave-one-out
    left, scales, right = np.linalg.svd(columns - centre, full_matrices=False)
    best, weights = np.inf, np.zeros(columns.shape[1])
    for strength in _STRENGTHS:
        shrunk = scales / (scales**2 + strength)
        fitted = left @ (scales * shrunk * (left.T @ (target - mean)))
        leverage = (left**2 * (scales * shrunk)).sum(axis=1) + 1 / len(values)
        error = float((((target - mean - fitted) / (1 - leverage + 1e-9)) ** 2).mean())
        if error < best:
            best, weights = error, right.T @ (shrunk * (left.T @ (target - mean)))
    predicted: Floats = np.exp((held_out - centre) @ weights + mean)
    return predicted


def forest(columns: Floats, values: Floats, held_out: Floats) -> Floats:
    """A random forest of 100 trees on log latency."""
    try:
        from sklearn.ensemble import RandomForestRegressor  # the baseline only
    except ImportError:
        sys.exit("the random forest needs scikit-learn: pip install scikit-learn, or give --no-forest")
    model = RandomForestRegressor(100, random_state=0).fit(columns, np.log(values))
    predicted: Floats = np.exp(model.predict(held_out))
    return predicted


def ceilings(cells: nb201.Cells, values: Floats, rows: Rows, *, with_forest: bool) -> dict[str, float]:
    """Upper limits that the table sets; see the module."""
    coefficients = fit_additive(cells.columns[rows], values[rows], nb201.ties(), n_resamples=0).coefficients
    limits = {"same form, whole table": rank_correlation(cells.columns[rows] @ coefficients, values[rows])}
    limits["spread among cells alike"], limits["repeatability"] = repeatability(
        values[rows], nb201.alike(cells.operations[rows], cells.columns[rows])
    )
    if with_forest and len(rows) > CEILING_CELLS:
        order = np.random.default_rng(0).permutation(rows)
        columns = np.concatenate([nb201.one_hot(cells.operations), cells.columns], axis=1)
        train, held_out = order[:CEILING_CELLS], order[CEILING_CELLS:]
        predicted = forest(columns[train], values[train], columns[held_out])
        limits[f"forest, {CEILING_CELLS} cells"] = rank_correlation(predicted, values[held_out])
    return limits


def repeatability(values: Floats, labels: Rows) -> tuple[float, float]:
    """Spread of latencies within equal labels, and the rank correlation of the best possible predictor.

    Args:
        values: [n], positive.
        labels: [n].

    Returns:
        The standard deviation of the logarithm within labels, and the correlation ratio of the ranks. The latter is the
        root of the share of the ranks' variance between labels, which a predictor of each label's mean rank reaches.
        Both are NaN if no label occurs twice.
    """
    frame = pd.DataFrame({"label": labels, "log": np.log(values), "rank": pd.Series(values).rank()})
    groups = frame.groupby("label")
    shared = frame[groups["log"].transform("size") > 1]
    degrees_of_freedom = len(shared) - shared["label"].nunique()
    if not degrees_of_freedom:
        return float("nan"), float("nan")
    deviations = shared[["log", "rank"]] - groups[["log", "rank"]].transform("mean").loc[shared.index]
    within = (deviations**2).sum() / degrees_of_freedom
    return float(np.sqrt(within["log"])), float(np.sqrt(max(0.0, 1 - within["rank"] / frame["rank"].var())))


def study(
    cells: nb201.Cells, values: Floats, rows: Rows, *, samples: list[int], seeds: int, with_forest: bool
) -> dict[str, Any]:
    """Mean figures of every method, by number of samples."""
    compared = {name: m for name, m in methods(cells).items() if with_forest or name != "random forest"}
    results: dict[str, Any] = {}
    for count in samples:
        entries_by_method: dict[str, list[dict[str, float]]] = {name: [] for name in compared}
        for seed in range(seeds):
            train = np.random.default_rng(seed).choice(rows, count, replace=False)
            held_out = np.setdiff1d(rows, train)
            for name, method in compared.items():
                entries_by_method[name].append(figures(method(train, values[train], held_out), values[held_out]))
        results[str(count)] = {name: _summary(entries) for name, entries in entries_by_method.items()}
    return results


def _summary(entries: list[dict[str, float]]) -> dict[str, float]:
    mean = {name: float(np.mean([e[name] for e in entries])) for name in entries[0]}
    return {**mean, "least_spearman": min(e["spearman"] for e in entries)}


def main() -> None:
    """Fit, print a table per column, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--latency-column", action="append", default=[])
    parser.add_argument("--samples", type=int, nargs="+", default=list(SAMPLES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--all-cells", action="store_true")
    parser.add_argument("--no-forest", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    table = nb201.read_table(args.table)
    cells = nb201.cells(nb201.read_operations(table))
    result: dict[str, Any] = {}
    for column in args.latency_column or [c for c in table.columns if c.endswith("_ms")]:
        begin = time.perf_counter()
        values = table[column].to_numpy(dtype=np.float64)
        rows = np.flatnonzero(np.isfinite(values) & (values > 0) & (cells.connected | args.all_cells))
        figures_by_samples = study(
            cells, values, rows, samples=args.samples, seeds=args.seeds, with_forest=not args.no_forest
        )
        limits = ceilings(cells, values, rows, with_forest=not args.no_forest)
        result[column] = {
            "cells": len(rows),
            "figures": figures_by_samples,
            "ceilings": limits,
            "bars": _bars(figures_by_samples),
        }
        _print(column, result[column], time.perf_counter() - begin)
        if args.json:
            args.json.write_text(json.dumps(result, indent=1) + "\n")


def _bars(figures_by_samples: dict[str, Any]) -> dict[str, bool]:
    return {
        str(count): figures_by_samples[str(count)]["learned roofline"]["spearman"] >= bar
        for count, bar in BARS.items()
        if str(count) in figures_by_samples
    }


def _print(column: str, result: dict[str, Any], seconds: float) -> None:
    print(
        f"{column}: {result['cells']} cells, {seconds:.0f} s (rank correlation / mean error / within 10 %)", flush=True
    )
    for name in next(iter(result["figures"].values())):
        cells = [
            f"{count}: {f[name]['spearman']:.3f} {f[name]['mean_error']:5.1%} {f[name]['within_10']:4.0%}"
            for count, f in result["figures"].items()
        ]
        print(f"  {name:24}{'   '.join(cells)}")
    limits = dict(result["ceilings"])
    spread = limits.pop("spread among cells alike")
    print(f"  ceilings: {', '.join(f'{name} {value:.3f}' for name, value in limits.items())}")
    print(f"  cells that execute the same graph differ by {spread:.1%}")
    missed = [f"{BARS[int(count)]} at {count}" for count, is_met in result["bars"].items() if not is_met]
    print(f"  {'misses ' + ', '.join(missed) if missed else 'meets the bar'}")


if __name__ == "__main__":
    main()
