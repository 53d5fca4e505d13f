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
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.fx

from nas.candidate import Candidate
from nas.compression import Compression
from nas.compressors._base import Context
from nas.compressors._half import rounded_as_on_a_device
from nas.data._base import FaceData, Images, Split
from nas.datasets import load_data
from nas.errors import CandidateError
from nas.execution import Execution
from nas.export import export, torch_probabilities
from nas.registry import load
from nas.targets import target
from nas.train import recipe_for, train
from nas.untrained import draw
from search_spaces._base import SearchSpace

COMPRESSORS = "prune_structured,low_rank,prune_unstructured,few_bits,quantize"
TARGETS = ("cpu", "jetson")
MAX_POINTS, MIN_AGREEMENT = 0.3, 0.995
CALIBRATION_IMAGES = 256
FACE = (1, 48, 48)
BATCH = 16
SPREAD = 1.5
"""Standard deviation of each logit over training images, about that of a trained net."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One candidate. Accuracies and agreement are shares, 0..1; `classes` counts those that torch says at least once.

    `leads` are by how much the first class led the second in torch, where the two disagree; `rounded_accuracy` and
    `rounded_agreement` compare the file with torch rounding each float16 layer's output, None without float16. `gain`
    is the largest factor by which a logit was spread, None in rows of earlier versions.
    """

    index: int
    target: str
    key: str
    candidate: str
    torch_accuracy: float
    classes: int
    file_accuracy: float
    agreement: float
    max_difference: float
    leads: tuple[float, ...]
    seconds: float
    error: str = ""
    rounded_accuracy: float | None = None
    rounded_agreement: float | None = None
    gain: float | None = None

    @property
    def points(self) -> float:
        """Difference of the accuracies in points."""
        return 100 * abs(self.torch_accuracy - self.file_accuracy)

    @property
    def passes(self) -> bool:
        """Whether both bars are kept."""
        return not self.error and self.points <= MAX_POINTS and self.agreement >= MIN_AGREEMENT


def prepared(
    candidate: Candidate,
    space: SearchSpace,
    compression: Compression,
    data: FaceData,
    epochs: float,
    *,
    spread: bool = True,
) -> Row:
    """Train, compress, export and compare one candidate; with `spread`, its logits vary like those of a trained net.

    Raises:
        CandidateError: a step of it fails.
    """
    begin, shape = time.perf_counter(), data.input_shape
    rows = np.linspace(0, len(data.train) - 1, CALIBRATION_IMAGES).astype(int)
    context = Context(
        candidate=candidate, profile=compression.profile, input_shape=shape,
        images=data.train.images[rows], labels=np.asarray(data.train.labels[rows], dtype=np.int64),
    )  # fmt: skip

    def learn(net: torch.nn.Module, share: float, seed: int) -> None:
        recipe = replace(recipe_for(sum(p.numel() for p in net.parameters())), batch_size=BATCH)
        with compression.training(net, context) as before_step:
            train(
                net, data.train, classes=len(data.classes), epochs=share * epochs, recipe=recipe, seed=seed,
                execution=Execution(memory_format="channels_last"), before_step=before_step,
            )  # fmt: skip

    def built(widths: dict[str, int]) -> torch.nn.Module:
        return space.build(candidate.architecture, input_shape=shape, classes=len(data.classes), widths=widths)

    torch.manual_seed(0)
    net = built(candidate.widths)
    learn(net, 0.6, 0)
    if compression.reshapes(candidate):
        slim = built(candidate.pruned)
        compression.prune(net, slim, context)
        net = compression.shape(slim, context)
    learn(net, 0.4, 1)
    gain = _spread(net.eval(), context.images) if spread else 1.0
    graph = compression.graph(net, context)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.onnx"
        export(graph, path, input_shape=shape, classes=data.classes, metadata={})
        session = load("runtime", "onnxruntime").load(path, threads=1)
        got = np.concatenate([session.predict(data.val.images[i : i + 256]) for i in range(0, len(data.val), 256)])
        session.close()
    graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    expected = torch_probabilities(graph, data.val.images)
    rounded = _rounded(graph, candidate, data.val.images)
    differ = np.flatnonzero(expected.argmax(1) != got.argmax(1))
    ordered = np.sort(expected[differ], axis=1)
    return Row(
        index=-1, target=compression.profile.name, key=candidate.key, candidate=candidate.to_json(),
        classes=len(np.unique(expected.argmax(1))),
        torch_accuracy=float((expected.argmax(1) == data.val.labels).mean()),
        file_accuracy=float((got.argmax(1) == data.val.labels).mean()),
        agreement=1 - len(differ) / len(got), max_difference=float(np.abs(expected - got).max()),
        leads=tuple(round(float(lead), 4) for lead in ordered[:, -1] - ordered[:, -2]),
        seconds=time.perf_counter() - begin,
        rounded_accuracy=None if rounded is None else float((rounded == data.val.labels).mean()),
        rounded_agreement=None if rounded is None else float((rounded == got.argmax(1)).mean()),
        gain=gain,
    )  # fmt: skip


def _rounded(graph: torch.fx.GraphModule, candidate: Candidate, images: Images) -> npt.NDArray[np.int64] | None:
    """Classes [N] if every float16 layer rounds what it writes; None if there is no such layer."""
    if 16 not in candidate.bits.values():
        return None
    parts = (torch.from_numpy(images[i : i + 256]).float() for i in range(0, len(images), 256))
    return np.concatenate([rounded_as_on_a_device(graph, candidate.bits, p).argmax(1).numpy() for p in parts])


def _spread(net: torch.nn.Module, images: Images) -> float:
    """Have each logit vary by `SPREAD` around 0, by the last layer: a net that always says the same proves nothing.

    Returns:
        The largest factor.
    """
    with torch.no_grad():
        logits = net(torch.from_numpy(images).float())
        head = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]
        gain = SPREAD / logits.std(0).clamp(min=1e-6)
        head.weight.mul_(gain[:, None])
        head.bias.sub_(logits.mean(0)).mul_(gain)
    return float(gain.max())


def candidates(
    count: int, seed: int, words: tuple[str, ...], max_macs: float
) -> list[tuple[int, SearchSpace, Compression, Candidate]]:
    """The same list for the same seed: spaces and targets in turn; what has more than `max_macs` is drawn again."""
    generator, found = random.Random(seed), []
    members = [load("compressor", word) for word in words]
    for index in range(count):
        compression = Compression(members=members, profile=target(TARGETS[index // 2 % 2]))
        space: SearchSpace = load("space", ("plain", "darts")[index % 2])
        candidate = draw(space, compression, generator)
        while max_macs < _macs(space, candidate):
            candidate = draw(space, compression, generator)
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
        known[index] = _kept(args.cache, replace(_tried(candidate, space, compression, data, args.epochs), index=index))
        print(f"\r{len(known)} of {args.candidates}", end="", file=sys.stderr)
    rows = [known[index] for index in sorted(known) if index < args.candidates]
    _tell(rows)
    failed = [row for row in rows if not row.passes and not row.error] if args.again else []
    again = _once_more(failed, words, _shortened(whole, args.again), args.epochs, args.cache)
    if again:
        passed = sum(row.passes for row in again)
        print(f"\nof those {len(failed)}, trained on {args.again:,} faces and not spread, {passed} pass:")
        for old, new in zip(failed, again, strict=True):
            print(f"  {old.index} {old.key}: {_facts(old)}; then {_facts(new)}")
    if args.json:
        args.json.write_text(
            json.dumps({"rows": [asdict(r) for r in rows], "again": [asdict(r) for r in again]}, indent=1)
        )


def _tried(
    candidate: Candidate,
    space: SearchSpace,
    compression: Compression,
    data: FaceData,
    epochs: float,
    *,
    spread: bool = True,
) -> Row:
    """The row of a candidate, or one with the reason why it could not be made; its index is not known yet."""
    try:
        return prepared(candidate, space, compression, data, epochs, spread=spread)
    except CandidateError as error:
        return Row(
            index=-1, target=compression.profile.name, key=candidate.key, candidate=candidate.to_json(),
            torch_accuracy=0, classes=0, file_accuracy=0, agreement=0, max_difference=1, leads=(), seconds=0,
            error=" ".join(str(error).split()),
        )  # fmt: skip


def _once_more(failed: list[Row], words: tuple[str, ...], data: FaceData, epochs: float, cache: Path) -> list[Row]:
    """The same candidates after a longer training, kept beside the cache."""
    path = cache.with_suffix(f".{len(data.train)}-faces.jsonl")
    known = {row.key: row for row in _cached(path)}
    for done, row in enumerate(failed, start=1):
        if row.key not in known:
            candidate = Candidate.from_json(row.candidate)
            compression = Compression(members=[load("compressor", word) for word in words], profile=target(row.target))
            made = _tried(candidate, load("space", candidate.space), compression, data, epochs, spread=False)
            known[row.key] = _kept(path, replace(made, index=row.index))
        print(f"\r{done} of {len(failed)} once more", end="", file=sys.stderr)
    return [known[row.key] for row in failed]


def _kept(path: Path, row: Row) -> Row:
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")
    return row


def _facts(row: Row) -> str:
    told = f"accuracy {row.file_accuracy:.1%}, {row.classes} classes said, agreement {row.agreement:.2%}"
    return f"{told}, {row.points:.2f} points"


def _tell(rows: list[Row]) -> None:
    fine = [row for row in rows if not row.error]
    print(
        f"\n{len(rows)} candidates: {sum(row.passes for row in rows)} pass, {len(rows) - len(fine)} could not be made"
    )
    for name in dict.fromkeys(row.target for row in fine):
        own = [row for row in fine if row.target == name]
        least, most = min(row.agreement for row in own), max(row.points for row in own)
        count = f"{sum(row.passes for row in own)} of {len(own)} pass"
        print(f"  {name}: {count}; agreement at least {least:.2%}, accuracies at most {most:.2f} points apart")
    if fine:
        points, agreement = [row.points for row in fine], [row.agreement for row in fine]
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
        if not row.passes:
            why = row.error or f"{row.points:.2f} points, agreement {row.agreement:.2%}, largest lead {max(row.leads)}"
            print(f"  {row.index} {row.key} on {row.target}: {why}\n    {row.candidate}")


def _cached(path: Path) -> list[Row]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return []
    raw = [json.loads(line) for line in path.read_text().splitlines()]
    return [Row(**{**fields, "leads": tuple(fields["leads"])}) for fields in raw]


def _shortened(data: FaceData, count: int) -> FaceData:
    rows = np.linspace(0, len(data.train) - 1, min(count, len(data.train))).astype(int)
    split = data.train
    return replace(data, train=Split(images=split.images[rows], labels=split.labels[rows]))


if __name__ == "__main__":
    main()
