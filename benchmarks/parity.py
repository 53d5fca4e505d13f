"""Random candidates of the whole joint space: does the exported file compute what torch computed?

    python -m benchmarks.parity --data fer2013.csv [--candidates 200] [--cache FILE.jsonl] [--json OUT.json]

Each candidate is drawn evenly over both search spaces and all genes of the compressors named (architecture, sparsity,
zeros, ranks, bits, few-bit weights), for this CPU (unsigned activations) and for a Jetson (signed, float16 rest) in
turn. It learns a little (`--epochs` of `--train-images`), is pruned, restructured and quantised as in a search, with
its logits spread like those of a trained net, exported, and run over the whole selection split in ONNX Runtime and in
torch. A candidate passes if accuracies differ by at most 0.3 points and top-1 agrees on at least 99.5 % of the images.
Of those that do not, the images on which the two disagree are looked at: how far the first class led the second.
Those are also trained anew on `--again` faces, and compared as they are: a net that has learned next to nothing gives
every face nearly the same logits, and spreading them magnifies differences of rounding by as much (`gain`).
ONNX Runtime computes float16 units in float32 on a CPU. What a device adds, which rounds each layer's output to
float16, is computed in torch and told beside: it is no fault of the file and cannot fail a candidate.
"""

import argparse
import json
import math
import random
import sys
from dataclasses import asdict, replace
from pathlib import Path

if not __package__:  # run as a file: siblings are found as with `python -m benchmarks.X`
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
from nas.targets.random_models import random_candidate
from search_spaces._base import SearchSpace

COMPRESSORS = "prune_structured,low_rank,prune_unstructured,few_bits,quantize"
TARGETS = ("cpu", "jetson")
FACE = (1, 48, 48)


def candidates(
    count: int, seed: int, words: tuple[str, ...], max_macs: float
) -> list[tuple[int, SearchSpace, CompressionPipeline, Candidate]]:
    """The same list for the same seed: spaces and targets in turn; what has more than `max_macs` is drawn again."""
    generator, found = random.Random(seed), []
    members = [load("compressor", word) for word in words]
    for index in range(count):
        compression = CompressionPipeline(compressors=members, profile=load_target(TARGETS[index // 2 % 2]))
        space: SearchSpace = load("space", ("plain", "darts")[index % 2])
        candidate = random_candidate(space, compression, generator)
        while max_macs < _macs(space, candidate):
            candidate = random_candidate(space, compression, generator)
        found.append((index, space, compression, candidate))
    return found


def _macs(space: SearchSpace, candidate: Candidate) -> float:
    """Multiply-accumulates of the unpruned net for one face, counted without computing anything."""
    counted: list[float] = []

    def count(module: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        counted.append(out[0, 0].numel() * float(module.get_parameter("weight").numel()))

    with torch.device("meta"):
        net = space.build(candidate.architecture, input_shape=FACE, classes=7, widths=candidate.widths).eval()
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(count)
        net(torch.empty(1, *FACE))
    return sum(counted)


def main() -> None:
    """Evaluate what the cache lacks, print the summary, write the JSON file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=1.0, help="of `--train-images` images")
    parser.add_argument("--train-images", type=int, default=600)
    parser.add_argument("--again", type=int, default=9600, help="faces on which what failed is trained anew; 0: none")
    parser.add_argument("--compressors", default=COMPRESSORS)
    parser.add_argument("--max-macs", type=float, default=math.inf, help="draw smaller nets only, to save time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("runs/parity.jsonl"), help="go on where it stopped")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    whole = load_data(args.dataset, args.data)
    data = _shortened(whole, args.train_images)
    known = {row.index: row for row in _cached(args.cache)}
    words = tuple(args.compressors.split(","))
    for index, space, compression, candidate in candidates(args.candidates, args.seed, words, args.max_macs):
        if index in known and known[index].key == candidate.key:
            continue
        trial = ParityTrial(space=space, compression=compression, data=data, epochs=args.epochs)
        known[index] = _kept(args.cache, replace(trial.row(candidate), index=index))
        print(f"\r{len(known)} of {args.candidates}", end="", file=sys.stderr)
    rows = [known[index] for index in sorted(known) if index < args.candidates]
    _tell(rows)
    failed = [row for row in rows if not row.is_passing and not row.error] if args.again else []
    again = _once_more(failed, words, _shortened(whole, args.again), args.epochs, args.cache)
    if again:
        passed = sum(row.is_passing for row in again)
        print(f"\nof those {len(failed)}, trained on {args.again:,} faces and not spread, {passed} pass:")
        for old, new in zip(failed, again, strict=True):
            print(f"  {old.index} {old.key}: {_facts(old)}; then {_facts(new)}")
    if args.json:
        args.json.write_text(
            json.dumps({"rows": [asdict(r) for r in rows], "again": [asdict(r) for r in again]}, indent=1)
        )


def _once_more(
    failed: list[ParityRow], words: tuple[str, ...], data: FaceData, epochs: float, cache: Path
) -> list[ParityRow]:
    """The same candidates after a longer training, kept beside the cache."""
    path = cache.with_suffix(f".{len(data.train)}-faces.jsonl")
    known = {row.key: row for row in _cached(path)}
    for done, row in enumerate(failed, start=1):
        if row.key not in known:
            candidate = Candidate.from_json(row.candidate)
            compression = CompressionPipeline(
                compressors=[load("compressor", word) for word in words], profile=load_target(row.target)
            )
            space = load("space", candidate.space)
            trial = ParityTrial(space=space, compression=compression, data=data, epochs=epochs, rescales_logits=False)
            known[row.key] = _kept(path, replace(trial.row(candidate), index=row.index))
        print(f"\r{done} of {len(failed)} once more", end="", file=sys.stderr)
    return [known[row.key] for row in failed]


def _kept(path: Path, row: ParityRow) -> ParityRow:
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")
    return row


def _facts(row: ParityRow) -> str:
    told = f"accuracy {row.file_accuracy:.1%}, {row.classes} classes said, agreement {row.agreement:.2%}"
    return f"{told}, {row.percentage_points:.2f} points"


def _tell(rows: list[ParityRow]) -> None:
    fine = [row for row in rows if not row.error]
    print(
        f"\n{len(rows)} candidates: {sum(row.is_passing for row in rows)} pass, {len(rows) - len(fine)} could not be made"
    )
    for name in dict.fromkeys(row.target for row in fine):
        own = [row for row in fine if row.target == name]
        least, most = min(row.agreement for row in own), max(row.percentage_points for row in own)
        count = f"{sum(row.is_passing for row in own)} of {len(own)} pass"
        print(f"  {name}: {count}; agreement at least {least:.2%}, accuracies at most {most:.2f} points apart")
    if fine:
        points, agreement = [row.percentage_points for row in fine], [row.agreement for row in fine]
        print(f"accuracy, torch against file: at most {max(points):.2f} points apart (mean {np.mean(points):.3f})")
        print(f"top-1 agreement: at least {min(agreement):.2%} (mean {np.mean(agreement):.3%})")
        print(f"different classes that a net says: at least {min(row.classes for row in fine)}")
        leads = [lead for row in fine for lead in row.leads]
        if leads:
            told = f"median {np.median(leads):.4f}, largest {max(leads):.4f}"
            print(f"lead of the first class in torch where the two disagree ({len(leads)} images): {told}")
    rounded = [(row, row.rounded_accuracy, row.rounded_agreement) for row in fine if row.rounded_agreement is not None]
    if rounded:
        points = [100 * abs((accuracy or 0) - row.file_accuracy) for row, accuracy, _ in rounded]
        agreement = [share or 0 for _, _, share in rounded]
        print(
            f"rounding to float16 as a device does, {len(rounded)} candidates: accuracy moves by at most "
            f"{max(points):.2f} points (mean {np.mean(points):.3f}), top-1 agreement at least {min(agreement):.2%} "
            f"(median {np.median(agreement):.2%})"
        )
    for row in rows:
        if not row.is_passing:
            why = (
                row.error
                or f"{row.percentage_points:.2f} points, agreement {row.agreement:.2%}, largest lead {max(row.leads)}"
            )
            print(f"  {row.index} {row.key} on {row.target}: {why}\n    {row.candidate}")


def _cached(path: Path) -> list[ParityRow]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return []
    raw = [json.loads(line) for line in path.read_text().splitlines()]
    return [ParityRow(**{**fields, "leads": tuple(fields["leads"])}) for fields in raw]


def _shortened(data: FaceData, count: int) -> FaceData:
    rows = np.linspace(0, len(data.train) - 1, min(count, len(data.train))).astype(int)
    split = data.train
    return replace(data, train=Split(images=split.images[rows], labels=split.labels[rows]))


if __name__ == "__main__":
    main()
