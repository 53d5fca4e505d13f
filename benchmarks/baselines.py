"""A run's front compared with published models: accuracy on one split, and latency interleaved in this process.

    python -m benchmarks.baselines RUN --data fer2013.csv --baseline mini_xception.onnx [--baseline ...] [--markdown]

A baseline is a Keras-style FER2013 model in ONNX. Its input is a 1x1x64x64 FP32 face, resized bilinearly from 48x48 and
scaled by (x / 255 - 0.5) * 2; its output is seven probabilities in FER2013's order. Our files take raw faces. Latency
is ONNX Runtime's on one thread of this machine; the last column is its ratio to the first baseline's, by the 5th
percentile.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch.nn import functional

from nas.data.base import FaceData, Images
from nas.data.loading import load_data
from nas.latency.costs import compute_costs
from nas.latency.measured.timing import measure_interleaved
from nas.metrics import Score, score
from nas.registry import load
from nas.results.run import load_run

FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIDE = 64


def score_baseline(path: Path, data: FaceData) -> Score:
    """Score a Keras-style model on the selection split; classes are matched by name."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    order = [FER2013.index(c) for c in data.classes]

    def predict(images: Images) -> np.ndarray:
        pixels = torch.from_numpy(images.copy()).float()
        pixels = functional.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        scaled = ((pixels / 255 - 0.5) * 2).numpy()
        rows = [session.run(None, {name: scaled[i : i + 1]})[0] for i in range(len(scaled))]
        return np.concatenate(rows)[:, order]

    return score(predict, data.val, data.classes)


def table(run: Path, data: FaceData, baselines: list[Path], runs: int) -> list[dict[str, Any]]:
    """One row per model: the baselines, then the run's front, all measured now."""
    loaded = load_run(run)
    front_files = [loaded.folder.path / model for model in loaded.front["model"]]
    shapes = [(1, SIDE, SIDE)] * len(baselines) + [data.input_shape] * len(front_files)
    runtime = load("runtime", "onnxruntime")
    latencies = measure_interleaved(
        [*baselines, *front_files], runtime, device="this machine", input_shape=shapes, runs=runs
    )
    scores = [score_baseline(path, data) for path in baselines]
    for path in front_files:
        session = runtime.load(path)
        scores.append(score(session.predict, data.val, data.classes))
        session.close()
    names = [path.stem for path in baselines] + [f"trial {trial}" for trial in loaded.front["trial"]]
    return [
        {
            "model": name, "accuracy": s.accuracy, "low": s.low, "high": s.high, "latency_ms": t.latency_ms,
            "p5_ms": t.p5_ms, "params": compute_costs(path).params, "size_bytes": path.stat().st_size,
            "macs": compute_costs(path).macs, "share": (t.p5_ms or 0) / (latencies[0].p5_ms or 1),
        }
        for name, path, s, t in zip(names, [*baselines, *front_files], scores, latencies, strict=True)
    ]  # fmt: skip


def main() -> None:
    """Measure, print the table, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--baseline", type=Path, action="append", required=True)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(args.dataset, args.data)
    rows = table(args.run, data, args.baseline, args.runs)
    header = ["model", f"{data.val_name} %", "95 %", "median ms", "p5 ms", "weights", "MMAC", "kB", "share of p5"]
    lines = [
        [
            r["model"], f"{r['accuracy']:.2%}", f"{r['low']:.1%} to {r['high']:.1%}", f"{r['latency_ms']:.4f}",
            f"{r['p5_ms']:.4f}", f"{r['params']:,}", f"{r['macs'] / 1e6:.2f}", f"{r['size_bytes'] / 1e3:.1f}",
            f"{r['share']:.2f}",
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
