"""Calibration methods of INT8 activations against each other, on several nets and both kinds of grid.

    python -m benchmarks.calibration --data fer2013.csv --nets a.onnx residual mobile [--epochs 0.1] [--markdown]

A net is a float ONNX file of the space `plain`, or a family of `benchmarks.compression`, which is trained once
(`--epochs` is the factor on its epochs). Every unit is in INT8, calibrated on 256 training images as in a search, and
scored as the graph that the file is written from.

- `uint8` grids have a zero point (CPU), `int8` grids are symmetric (TensorRT, ARM).
- `divergence` is the mean Kullback-Leibler divergence of the INT8 net's probabilities from the float net's, in
  thousandths of a nat. It tells methods apart long before the accuracy does.
- `worst` counts the rows in which a method has the highest divergence of all, `times best` is its mean ratio to the
  lowest of the row, and `at most` the largest such ratio.
"""

import argparse
import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks._compression_nets import FAMILIES, TrainedNet
from benchmarks._plain_file import plain_net_of_file
from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.compression.pipeline import CompressionPipeline
from nas.compression.quantization.calibration import CALIBRATION_METHODS
from nas.data.base import FaceData
from nas.data.loading import load_data
from nas.models.user_model import UserModelSpace
from nas.onnx_export.folding import fold
from nas.registry import load
from nas.targets.catalog import load_target
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import predict
from nas.training.model_builder import CALIBRATION_IMAGES
from search_spaces._base import HEAD, STEM

GRIDS = {"uint8": False, "int8": True}
STATISTICS_IMAGES = 1024
MIN_PROBABILITY = 1e-9

Floats = npt.NDArray[np.float32]
Row = dict[str, Any]


def load_net(word: str, data: FaceData, *, epochs: float, cache: Path) -> nn.Module:
    """The net of an ONNX file or of a family, in eval mode."""
    if word in FAMILIES:
        return TrainedNet(word, data, epoch_scale=epochs, cache_dir=cache, log=print).load_or_train().net
    images = data.train.images[data.train.evenly_spread_rows(STATISTICS_IMAGES)]
    return plain_net_of_file(Path(word), images, input_shape=data.input_shape, classes=len(data.classes))


def rows_of(name: str, net: nn.Module, data: FaceData, *, n_faces: int) -> list[Row]:
    """One row for each grid and method."""
    images = data.val.images[:n_faces]
    expected = probabilities(fold(copy.deepcopy(net), input_shape=data.input_shape), images)
    accuracy = accuracy_of(expected, data)
    rows = []
    for grid, signed in GRIDS.items():
        for method in CALIBRATION_METHODS:
            got = probabilities(quantized(net, data, signed=signed, method=method), images)
            rows.append({
                "net": name, "grid": grid, "method": method, "float": accuracy, "accuracy": accuracy_of(got, data),
                "divergence": divergence(expected, got),
            })  # fmt: skip
    return rows


def quantized(net: nn.Module, data: FaceData, *, signed: bool, method: str) -> nn.Module:
    """The graph with every unit in INT8."""
    profile = replace(load_target("cpu"), activation_signed=signed)
    space = UserModelSpace("net", net, input_shape=data.input_shape, channel_multiple=profile.channel_multiple)
    whole = dict.fromkeys((STEM, *space.stages, HEAD), 8)
    widths = space.widths({})
    candidate = Candidate(
        space="net", architecture={}, widths=widths, pruned=widths, bits=whole, settings={"calibration": method}
    )
    rows = data.train.evenly_spread_rows(CALIBRATION_IMAGES)
    context = CompressionContext(
        candidate=candidate, profile=profile, input_shape=data.input_shape, images=data.train.images[rows],
        labels=np.asarray(data.train.labels[rows], dtype=np.int64),
    )  # fmt: skip
    pipeline = CompressionPipeline(compressors=[load("compressor", "quantize")], profile=profile)
    built = space.build({}, input_shape=data.input_shape, classes=len(data.classes))
    return pipeline.compress_graph(built, context)


def probabilities(net: nn.Module, images: npt.NDArray[np.uint8]) -> Floats:
    """Class probabilities [N, K]."""
    return predict(net, images, execution=ExecutionFormat(threads=torch.get_num_threads()))


def accuracy_of(predicted: Floats, data: FaceData) -> float:
    """Accuracy 0..1 on the first faces of the selection split."""
    return float((predicted.argmax(1) == data.val.labels[: len(predicted)]).mean())


def divergence(expected: Floats, got: Floats) -> float:
    """Mean Kullback-Leibler divergence in nats of rows of probabilities [N, K]; 0 where they are equal."""
    p, q = (np.maximum(each.astype(np.float64), MIN_PROBABILITY) for each in (expected, got))
    return float((p * np.log(p / q)).sum(1).mean())


def table(rows: Sequence[Row]) -> list[list[str]]:
    """One line for each net and grid, then one for each method."""
    lines = [["net", "grid", "float", *(f"{method}: %, divergence" for method in CALIBRATION_METHODS)]]
    cases = list(dict.fromkeys((row["net"], row["grid"]) for row in rows))
    for case in cases:
        of_case = [row for row in rows if (row["net"], row["grid"]) == case]
        cells = [f"{row['accuracy']:.2%}, {1e3 * row['divergence']:.2f}" for row in of_case]
        lines.append([*case, f"{of_case[0]['float']:.2%}", *cells])
    return lines


def summary(rows: Sequence[Row]) -> list[str]:
    """How each method compares over all rows."""
    cases: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        cases.setdefault((row["net"], row["grid"]), {})[row["method"]] = row["divergence"]
    lines = []
    for method in CALIBRATION_METHODS:
        ratios = [of_case[method] / min(of_case.values()) for of_case in cases.values()]
        worst = sum(of_case[method] == max(of_case.values()) for of_case in cases.values())
        points = [100 * (row["accuracy"] - row["float"]) for row in rows if row["method"] == method]
        lines.append(
            f"{method:<10}  worst {worst} of {len(cases)}, times best {geometric_mean(ratios):.2f}, at most "
            f"{max(ratios):.2f}; accuracy {np.mean(points):+.2f} points, lowest {min(points):+.2f}"
        )
    return lines


def main() -> None:
    """Train what is missing, calibrate, print the tables, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nets", nargs="+", default=["plain", "residual", "mobile"])
    parser.add_argument("--epochs", type=float, default=1.0, help="factor on the epochs of families")
    parser.add_argument("--faces", type=int, default=3589, help="first faces of the selection split to score")
    parser.add_argument("--cache", type=Path, default=Path("runs/compression-bench"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = load_data(args.dataset, args.data)
    rows: list[Row] = []
    for word in args.nets:
        net = load_net(word, data, epochs=args.epochs, cache=args.cache)
        rows += rows_of(Path(word).stem, net, data, n_faces=args.faces)
    lines = table(rows)
    if args.markdown:
        lines.insert(1, ["---"] * len(lines[0]))
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        for line in lines:
            print("  ".join(cell.rjust(24) for cell in line))
    print("\n".join(summary(rows)))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
