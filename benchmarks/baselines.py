"""A run's front, or a folder of models, beside published ones: accuracy, and latency interleaved in this process.

    python -m benchmarks.baselines RUN --data fer2013.csv --baseline mini_xception.onnx [--baseline ...] [--markdown]
    python -m benchmarks.baselines examples/fer2013-front --data fer2013.csv --baseline mini_xception.onnx --markdown

A baseline is a Keras-style FER2013 model in ONNX. Its input is a 1x1x64x64 FP32 face, resized bilinearly from 48x48 and
scaled by (x / 255 - 0.5) * 2; its output is seven probabilities in FER2013's order. Our files take raw faces. Latency
is ONNX Runtime's on one thread of this machine; the last column is its ratio to the first baseline's, by the 5th
percentile. "unseen" is the accuracy on the faces of the split that have no copy or near copy in Training.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch.nn import functional

from nas.data.base import FaceData, Split
from nas.data.leaks import copies_in
from nas.data.loading import load_data
from nas.latency.costs import compute_costs
from nas.latency.measured.timing import measure_interleaved
from nas.metrics import Floats, Score, score
from nas.registry import load
from nas.results.run import load_run

FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIDE = 64


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model of the table: its name, file, input (C, H, W), and probabilities [N, K] for the selection split."""

    name: str
    path: Path
    shape: tuple[int, int, int]
    probabilities: Floats


def baseline_entry(path: Path, data: FaceData) -> Entry:
    """A Keras-style model on the selection split; classes are matched by name."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    order = [FER2013.index(c) for c in data.classes]
    pixels = torch.from_numpy(data.val.images.copy()).float()
    pixels = functional.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    scaled = ((pixels / 255 - 0.5) * 2).numpy()
    rows = np.concatenate([session.run(None, {name: scaled[i : i + 1]})[0] for i in range(len(scaled))])[:, order]
    return Entry(name=path.stem, path=path, shape=(1, SIDE, SIDE), probabilities=rows.astype(np.float32))


def own_entries(place: Path, data: FaceData) -> list[Entry]:
    """The front of a run, or every ONNX file below a folder, smallest first."""
    if (place / "config.toml").exists():
        loaded = load_run(place)
        files = {
            f"trial {t}": loaded.folder.path / m
            for t, m in zip(loaded.front["trial"], loaded.front["model"], strict=True)
        }
    else:
        found = sorted(place.rglob("*.onnx"), key=lambda path: path.stat().st_size)
        files = {str(path.relative_to(place).with_suffix("")): path for path in found}
    entries = []
    for name, path in files.items():
        session = load("runtime", "onnxruntime").load(path)
        rows = session.predict(data.val.images)
        session.close()
        entries.append(Entry(name=name, path=path, shape=data.input_shape, probabilities=rows))
    return entries


def table(place: Path, data: FaceData, baselines: list[Path], runs: int) -> list[dict[str, Any]]:
    """One row per model: the baselines, then our own, all measured now."""
    entries = [*(baseline_entry(path, data) for path in baselines), *own_entries(place, data)]
    latencies = measure_interleaved(
        [entry.path for entry in entries], load("runtime", "onnxruntime"), device="this machine",
        input_shape=[entry.shape for entry in entries], runs=runs,
    )  # fmt: skip
    unseen = np.flatnonzero(~copies_in(data.val.images, data.train.images))
    rows = []
    for entry, timed in zip(entries, latencies, strict=True):
        figures = score_rows(entry.probabilities, data.val, data.classes)
        without = score_rows(entry.probabilities[unseen], data.val.select(unseen), data.classes)
        costs = compute_costs(entry.path)
        rows.append({
            "model": entry.name, "path": str(entry.path), "published": entry.path in baselines,
            "accuracy": figures.accuracy, "low": figures.low, "high": figures.high,
            "unseen": without.accuracy, "latency_ms": timed.latency_ms, "p5_ms": timed.p5_ms, "params": costs.params,
            "size_bytes": entry.path.stat().st_size, "macs": costs.macs,
            "share": (timed.p5_ms or 0) / (latencies[0].p5_ms or 1), "recall": figures.recall,
        })  # fmt: skip
    return rows


def score_rows(rows: Floats, split: Split, classes: tuple[str, ...]) -> Score:
    """Score of probabilities that were computed before."""
    return score(lambda _: rows, split, classes, batch_size=len(split))


def main() -> None:
    """Measure, print the table, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, or folder of ONNX files that take raw faces")
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--baseline", type=Path, action="append", required=True)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(args.dataset, args.data, keep_duplicates=True)
    rows = table(args.run, data, args.baseline, args.runs)
    header = ["model", f"{data.val_name} %", "95 %", "unseen %", "median ms", "p5 ms", "weights", "MMAC", "kB"]
    header.append("share of p5")
    lines = [
        [
            r["model"], f"{r['accuracy']:.2%}", f"{r['low']:.1%} to {r['high']:.1%}", f"{r['unseen']:.2%}",
            f"{r['latency_ms']:.4f}", f"{r['p5_ms']:.4f}", f"{r['params']:,}", f"{r['macs'] / 1e6:.2f}",
            f"{r['size_bytes'] / 1e3:.1f}", f"{r['share']:.2f}",
        ]
        for r in rows
    ]  # fmt: skip
    if args.markdown:
        lines = [header, ["---"] * len(header), *lines]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        for line in [header, *lines]:
            print("  ".join(cell.rjust(14) for cell in line))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
