"""Parity of torch and the exported file on random candidates of the whole joint space.

    python -m benchmarks.parity --data fer2013.csv [--candidates 200] [--cache FILE.jsonl] [--json OUT.json]

Candidates are drawn uniformly over both search spaces and all genes of the named compressors (architecture, sparsity,
zeros, ranks, bits, few-bit weights), in turn for this CPU (unsigned activations) and for a Jetson (signed activations,
FP16 elsewhere). Each is trained briefly (`--epochs` of `--train-images`), pruned, restructured and quantised as in a
search. Its logits are scaled to the spread of a trained net's. The exported file and torch then predict the whole
selection split. A candidate passes if accuracies differ by at most 0.3 points and top-1 agrees on at least 99.5 % of
the images.

For candidates that fail, the margin of the first class over the second is reported on the images where the predictions
differ. They are also trained again, on `--again` faces, and compared without scaling: a barely trained net has nearly
constant logits, and scaling them magnifies rounding differences as much (`gain`).

ONNX Runtime computes FP16 units in FP32 on a CPU. A device rounds each layer's output to FP16; the effect is computed
in torch and reported separately. It is a property of the device, not of the file, so it cannot fail a candidate.
"""

import argparse
import json
import math
import random
import sys
from dataclasses import asdict, replace
from pathlib import Path

if not __package__:  # run as a file: import siblings as `python -m benchmarks.X` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from benchmarks._parity_rows import ParityRow, ParityTrial
from nas.candidate import Candidate
from nas.compression.pipeline import CompressionPipeline
from nas.data.base import FaceData, Split
from nas.data.loading import load_data
from nas.registry import load
from nas.targets.catalog import load_target
from nas.targets.random_candidates import random_candidate
from search_spaces._base import SearchSpace

COMPRESSORS = "prune_structured,low_rank,prune_unstructured,few_bits,quantize"
TARGETS = ("cpu", "jetson")
FACE = (1, 48, 48)


def candidates(
    count: int, seed: int, compressors: tuple[str, ...], max_macs: float
) -> list[tuple[int, SearchSpace, CompressionPipeline, Candidate]]:
    """Random candidates, the same for the same seed.

    Spaces and targets take turns; candidates with more than `max_macs` are drawn again.
    """
    generator, drawn = random.Random(seed), []
    members = [load("compressor", word) for word in compressors]
    for index in range(count):
        compression = CompressionPipeline(compressors=members, profile=load_target(TARGETS[index // 2 % 2]))
        space: SearchSpace = load("space", ("plain", "darts")[index % 2])
        candidate = random_candidate(space, compression, generator)
        while max_macs < _macs(space, candidate):
            candidate = random_candidate(space, compression, generator)
        drawn.append((index, space, compression, candidate))
    return drawn


def _macs(space: SearchSpace, candidate: Candidate) -> float:
    """Multiply-accumulates of the unpruned net for one face, counted on the meta device without computation."""
    layer_macs: list[float] = []

    def count(module: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        layer_macs.append(out[0, 0].numel() * float(module.get_parameter("weight").numel()))

    with torch.device("meta"):
        net = space.build(candidate.architecture, input_shape=FACE, classes=7, widths=candidate.widths).eval()
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(count)
        net(torch.empty(1, *FACE))
    return sum(layer_macs)


def main() -> None:
    """Evaluate what the cache lacks, print the summary, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=1.0, help="epochs of --train-images images")
    parser.add_argument("--train-images", type=int, default=600)
    parser.add_argument(
        "--again", type=int, default=9600, help="faces for training failed candidates again; 0 for none"
    )
    parser.add_argument("--compressors", default=COMPRESSORS)
    parser.add_argument(
        "--max-macs", type=float, default=math.inf, help="largest multiply-accumulates of a net, to save time"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("runs/parity.jsonl"),
        help="file of finished rows, from which the benchmark resumes",
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    full_data = load_data(args.dataset, args.data)
    data = _subset(full_data, args.train_images)
    rows_by_index = {row.index: row for row in _read_cache(args.cache)}
    compressors = tuple(args.compressors.split(","))
    for index, space, compression, candidate in candidates(args.candidates, args.seed, compressors, args.max_macs):
        if index in rows_by_index and rows_by_index[index].key == candidate.key:
            continue
        trial = ParityTrial(space=space, compression=compression, data=data, epochs=args.epochs)
        rows_by_index[index] = _append(args.cache, replace(trial.row(candidate), index=index))
        print(f"\r{len(rows_by_index)} of {args.candidates}", end="", file=sys.stderr)
    rows = [rows_by_index[index] for index in sorted(rows_by_index) if index < args.candidates]
    _print_summary(rows)
    failed = [row for row in rows if not row.is_passing and not row.error] if args.again else []
    again = _train_again(failed, compressors, _subset(full_data, args.again), args.epochs, args.cache)
    if again:
        passed = sum(row.is_passing for row in again)
        print(f"\nof those {len(failed)}, trained on {args.again:,} faces, logits not scaled, {passed} pass:")
        for old, new in zip(failed, again, strict=True):
            print(f"  {old.index} {old.key}: {_describe(old)}; then {_describe(new)}")
    if args.json:
        args.json.write_text(
            json.dumps({"rows": [asdict(r) for r in rows], "again": [asdict(r) for r in again]}, indent=1)
        )


def _train_again(
    failed: list[ParityRow], compressors: tuple[str, ...], data: FaceData, epochs: float, cache: Path
) -> list[ParityRow]:
    """Rows of the same candidates after a longer training, cached beside the cache."""
    path = cache.with_suffix(f".{len(data.train)}-faces.jsonl")
    rows_by_key = {row.key: row for row in _read_cache(path)}
    for done, row in enumerate(failed, start=1):
        if row.key not in rows_by_key:
            candidate = Candidate.from_json(row.candidate)
            compression = CompressionPipeline(
                compressors=[load("compressor", word) for word in compressors], profile=load_target(row.target)
            )
            space = load("space", candidate.space)
            trial = ParityTrial(space=space, compression=compression, data=data, epochs=epochs, rescales_logits=False)
            rows_by_key[row.key] = _append(path, replace(trial.row(candidate), index=row.index))
        print(f"\r{done} of {len(failed)} once more", end="", file=sys.stderr)
    return [rows_by_key[row.key] for row in failed]


def _append(path: Path, row: ParityRow) -> ParityRow:
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")
    return row


def _describe(row: ParityRow) -> str:
    text = f"accuracy {row.file_accuracy:.1%}, {row.classes} classes predicted, agreement {row.agreement:.2%}"
    return f"{text}, {row.percentage_points:.2f} points"


def _print_summary(rows: list[ParityRow]) -> None:
    complete = [row for row in rows if not row.error]
    print(
        f"\n{len(rows)} candidates: {sum(row.is_passing for row in rows)} pass, "
        f"{len(rows) - len(complete)} could not be built"
    )
    for name in dict.fromkeys(row.target for row in complete):
        own = [row for row in complete if row.target == name]
        lowest, largest = min(row.agreement for row in own), max(row.percentage_points for row in own)
        count = f"{sum(row.is_passing for row in own)} of {len(own)} pass"
        print(f"  {name}: {count}; agreement at least {lowest:.2%}, accuracies at most {largest:.2f} points apart")
    if complete:
        points, agreement = [row.percentage_points for row in complete], [row.agreement for row in complete]
        print(f"accuracy, torch against file: at most {max(points):.2f} points apart (mean {np.mean(points):.3f})")
        print(f"top-1 agreement: at least {min(agreement):.2%} (mean {np.mean(agreement):.3%})")
        print(f"classes that a net predicts: at least {min(row.classes for row in complete)}")
        leads = [lead for row in complete for lead in row.leads]
        if leads:
            text = f"median {np.median(leads):.4f}, largest {max(leads):.4f}"
            print(f"margin of the first class in torch where the predictions differ ({len(leads)} images): {text}")
    rounded = [
        (row, row.rounded_accuracy, row.rounded_agreement) for row in complete if row.rounded_agreement is not None
    ]
    if rounded:
        points = [100 * abs((accuracy or 0) - row.file_accuracy) for row, accuracy, _ in rounded]
        agreement = [share or 0 for _, _, share in rounded]
        print(
            f"rounding to FP16 as on a device, {len(rounded)} candidates: accuracy moves by at most "
            f"{max(points):.2f} points (mean {np.mean(points):.3f}), top-1 agreement at least {min(agreement):.2%} "
            f"(median {np.median(agreement):.2%})"
        )
    for row in rows:
        if not row.is_passing:
            reason = (
                row.error
                or f"{row.percentage_points:.2f} points, agreement {row.agreement:.2%}, largest margin {max(row.leads)}"
            )
            print(f"  {row.index} {row.key} on {row.target}: {reason}\n    {row.candidate}")


def _read_cache(path: Path) -> list[ParityRow]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return []
    raw = [json.loads(line) for line in path.read_text().splitlines()]
    return [ParityRow(**{**fields, "leads": tuple(fields["leads"])}) for fields in raw]


def _subset(data: FaceData, count: int) -> FaceData:
    rows = np.linspace(0, len(data.train) - 1, min(count, len(data.train))).astype(int)
    split = data.train
    return replace(data, train=Split(images=split.images[rows], labels=split.labels[rows]))


if __name__ == "__main__":
    main()
