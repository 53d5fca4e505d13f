"""The Jetson profiles against published TensorRT FP16 latencies at batch 1, and constants fitted to these.

    python -m benchmarks.jetson_profiles --table jetson_latency.csv [--table MORE.csv] [--onnx FOLDER] [--json OUT.json]

A table's columns: device, model, precision, batch, latency_ms, runtime, source_repo. A row is used if its net is known,
either by name from `published_nets` or as FOLDER/<model>.onnx, whose kernels are then taken in FP16.

For each board, the predictions are those of:

- the shipped profile;
- constants fitted without the predicted net (leave one model out);
- constants from the other boards alone (leave one board out);
- where the module has a profile in another power mode: that profile converted to this mode, and as it is.

An error is that of the published figure relative to the prediction, like `relative_error` in the profiles. `--fit` also
prints constants fitted to all rows, which hw_profiles/jetson.py holds.
"""

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: import siblings as `python -m benchmarks.X` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks import roofline_fit
from benchmarks.latency_prediction import rank_correlation
from benchmarks.published_nets import NETS
from hw_profiles._base import HardwareProfile
from hw_profiles._power_modes import with_power_mode
from nas.latency.costs import Costs, compute_costs
from nas.latency.predicted.learned_roofline import conformal_half_width
from nas.latency.predicted.roofline import predict_roofline
from nas.targets.catalog import load_target, load_targets

RUNTIMES = {"tensorrt", "tensorrt(torch2trt)"}
BOARDS = {"orin_nx_16gb": "jetson-orin-nx"}  # the table's name to the profile's, where they differ
MISSPELLED = {"movilevits": "mobilevits", "segformetb0": "segformerb0"}  # a table's misspelling to the name
COLUMNS = ("device", "model", "precision", "batch", "latency_ms", "runtime", "source_repo")
OTHER_MODES = {
    "jetson-orin-nano": ("jetson-orin-nano-super", "15W"),
    "jetson-orin-nano-super": ("jetson-orin-nano", "MAXN_SUPER"),
}
"""A profile to the other profile of the same module, and the mode that converts that one to it."""
MIN_ROWS = 5
Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published latency in ms."""

    board: str
    model: str
    source: str
    published_ms: float
    net: Costs

    @property
    def profile(self) -> HardwareProfile:
        """The board's profile."""
        return load_target(self.board)


def rows(tables: Iterable[Path], onnx_folder: Path | None) -> tuple[list[Row], set[str]]:
    """The rows whose board and net are known, and the names of unknown nets."""
    known_rows, unknown = [], set()
    nets = {_plain(name): build for name, build in NETS.items()}
    costs_by_name: dict[str, Costs] = {}
    for entry in (entry for table in tables for entry in entries(table)):
        usable = entry["runtime"] in RUNTIMES and entry["precision"] == "fp16" and entry["batch"] == "1"
        board = BOARDS.get(entry["device"], "jetson-" + entry["device"].replace("_", "-"))
        if not usable or not entry["latency_ms"] or board not in load_targets():
            continue
        name = _plain(entry["model"])
        file = onnx_folder / f"{entry['model']}.onnx" if onnx_folder else None
        if name not in costs_by_name and name in nets:
            costs_by_name[name] = nets[name]()
        elif name not in costs_by_name and file and file.exists():
            costs_by_name[name] = _halved(compute_costs(file))
        if name not in costs_by_name:
            unknown.add(entry["model"])
            continue
        known_rows.append(
            Row(
                board=board,
                model=entry["model"],
                source=entry["source_repo"],
                published_ms=float(entry["latency_ms"]),
                net=costs_by_name[name],
            )
        )
    return known_rows, unknown


def entries(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV file.

    Raises:
        SystemExit: the file cannot be read, or lacks a column.
    """
    try:
        lines = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"--table must be a readable CSV file: {error}") from error
    missing = [column for column in COLUMNS if lines and column not in lines[0]]
    if missing or not lines:
        raise SystemExit(
            f"{table} must have rows with the columns {', '.join(COLUMNS)}, but lacks {', '.join(missing)}"
        )
    return lines


def _plain(model: str) -> str:
    """A model's name without differences of spelling; batch norm is folded, so its suffix is dropped."""
    plain = model.lower().removesuffix("_bn").replace("-", "").replace("_", "").replace(".", "")
    return MISSPELLED.get(plain, plain)


def _halved(net: Costs) -> Costs:
    kernels = tuple(
        replace(
            k, bits=16, input_bytes=k.input_bytes // 2, output_bytes=k.output_bytes // 2,
            weight_bytes=k.weight_bytes // 2,
        )
        for k in net.kernels
        if k.bits == 32
    )  # fmt: skip
    return replace(net, kernels=kernels or net.kernels)


def figures(published: Iterable[float], predicted: Iterable[float]) -> Figures:
    """Median and 95 % error of the published figure relative to the prediction, and the rank correlation."""
    true, guess = np.array(list(published)), np.array(list(predicted))
    errors = np.abs(true / guess - 1)
    return {
        "rows": len(true),
        "median_error": statistics.median(errors.tolist()),
        "interval": conformal_half_width(guess / true - 1),
        "spearman": rank_correlation(guess, true),
    }


def study(known_rows: list[Row]) -> dict[str, Any]:
    """Figures per board: as shipped, without the model, without the board; and constants fitted to all its rows."""
    boards = {b: [r for r in known_rows if r.board == b] for b in dict.fromkeys(r.board for r in known_rows)}
    fittable = {b: rows for b, rows in boards.items() if len(rows) >= MIN_ROWS}
    constants = roofline_fit.fit_boards({b: _samples(rows) for b, rows in fittable.items()}) if fittable else {}
    result: dict[str, Any] = {}
    for board, own in boards.items():
        others = {b: _samples(rows) for b, rows in fittable.items() if b != board}
        prior = roofline_fit.pooled(roofline_fit.fit_boards(others)) if others else roofline_fit.START
        predicted = {
            "shipped": [predict_roofline(r.net, r.profile).latency_ms for r in own],
            "without the board": roofline_fit.predict(_samples(own), prior).tolist(),
        }
        if board in fittable:
            predicted["without the model"] = _without_model(own, prior)
        predicted |= _from_other_mode(own)
        result[board] = {name: _figures_by_source(own, values) for name, values in predicted.items()}
        if board in fittable:
            result[board]["constants"] = roofline_fit.describe(constants[board])
    return result


def _from_other_mode(own: list[Row]) -> dict[str, list[float]]:
    """Predictions of the module's other profile, converted to this mode and as it is; empty without one."""
    if own[0].board not in OTHER_MODES:
        return {}
    other, mode = OTHER_MODES[own[0].board]
    profiles = {
        "from another mode": with_power_mode(load_target(other), mode),
        "that mode as it is": load_target(other),
    }
    return {name: [predict_roofline(r.net, profile).latency_ms for r in own] for name, profile in profiles.items()}


def _figures_by_source(own: list[Row], predicted: list[float]) -> dict[str, Figures]:
    """Figures over all rows and, where there are several, per publisher, since their software differs."""
    sources = list(dict.fromkeys(r.source for r in own))
    groups = {"all": own} | ({s: [r for r in own if r.source == s] for s in sources} if len(sources) > 1 else {})
    prediction_by_row = {id(r): p for r, p in zip(own, predicted, strict=True)}
    return {
        name: figures([r.published_ms for r in group], [prediction_by_row[id(r)] for r in group])
        for name, group in groups.items()
        if len(group) > 1
    }


def _without_model(own: list[Row], prior: roofline_fit.Constants) -> list[float]:
    predicted = []
    for row in own:
        others = [r for r in own if _plain(r.model) != _plain(row.model)]
        constants = roofline_fit.fit(_samples(others), prior)
        predicted += roofline_fit.predict(_samples([row]), constants).tolist()
    return predicted


def _samples(own: list[Row]) -> roofline_fit.Samples:
    return roofline_fit.samples([(r.net, r.profile, r.published_ms) for r in own])


def main() -> None:
    """Print every row, then the figures of each board; write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, action="append", required=True)
    parser.add_argument("--onnx", type=Path, help="folder of <model>.onnx for nets that published_nets lacks")
    parser.add_argument("--fit", action="store_true", help="print constants fitted to all rows")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    known_rows, unknown = rows(args.table, args.onnx)
    if not known_rows:
        sys.exit("no row has a known board and a known net; name nets as published_nets.py does, or give --onnx")
    for r in sorted(known_rows, key=lambda r: r.board):
        prediction = predict_roofline(r.net, r.profile).latency_ms
        error = r.published_ms / prediction - 1
        print(f"{r.board:24} {r.model:20} {r.published_ms:8.2f} {prediction:8.2f} {error:+7.0%}  {r.source}")
    if unknown:
        print(f"unknown nets, left out: {', '.join(sorted(unknown))}")
    result = study(known_rows)
    for board, entry in result.items():
        print(board)
        for method in ("shipped", "without the model", "without the board", "from another mode", "that mode as it is"):
            for source, f in entry.get(method, {}).items():
                print(
                    f"  {method:18} {f['rows']:3} rows, median error {f['median_error']:4.0%}, 95 % within "
                    f"{f['interval']:4.0%}, rank correlation {f['spearman']:.3f}  {source}"
                )
        if args.fit and "constants" in entry:
            print(f"  {entry['constants']}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
