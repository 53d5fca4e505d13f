"""Pruning against training the same small net from scratch, and pruning criteria against each other.

    python -m benchmarks.prune_or_scratch --data fer2013.csv [--seeds 3] [--epochs 6] [--json OUT.json] [--markdown]

Half of the channels of each stage are removed from two initial nets of the space `plain`, a chain of dense blocks and
one of residual blocks.

In the first part all rows train on equally many faces. `wide` is the net before pruning, and `scratch` the small net on
one schedule. `pruned` trains the wide net for half of the epochs and fine-tunes for the other half, with channels
removed in one step or several, as in a search. (Rethinking the Value of Network Pruning, Liu et al. 2019,
https://arxiv.org/abs/1810.05270, makes the same comparison on large nets.)

The second part prunes one wide net by each criterion in one step, on a subset of the faces; `random` is the baseline of
the criteria.

`right after` is the accuracy before fine-tuning, `fresh` the same with batch statistics recomputed from 256 training
faces. Intervals are Wilson's, over the faces of the selection split. `seeds` states the lowest and the highest
accuracy. Finished rows are cached and not trained again.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nas.candidate import Candidate, decode
from nas.compression.base import CompressionContext
from nas.compression.compressors.prune_structured import CRITERIA, transfer_channels
from nas.compression.pruning.group_importance import ScoreFunction, bind_criterion
from nas.compression.pruning.schedule import width_schedule
from nas.data.base import FaceData, Split
from nas.data.loading import load_data
from nas.intervals import wilson_interval
from nas.registry import load
from nas.targets.catalog import load_target
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import predict, train
from nas.training.recipe import recipe_for

NETS = {"dense": 0, "residual": 1}
"""Index among the initial nets of the space."""
SPARSITY = 0.5
MULTIPLE = 8
FACES = 256
WAYS = (("wide", 0), ("scratch", 0), ("pruned", 1), ("pruned", 2), ("pruned", 4))
"""How a net is made, and in how many steps channels are removed."""
RANDOM = "random"


@dataclass(frozen=True)
class RowSettings:
    """The settings of one row."""

    net: str
    seed: int
    images: int
    epochs: float
    way: str
    steps: int = 0
    criterion: str = ""


class RowTrainer:
    """One net and seed on one set of faces, shared by several rows."""

    def __init__(self, settings: RowSettings, data: FaceData, threads: int) -> None:
        rows = np.random.default_rng(settings.seed).permutation(len(data.train))[: settings.images]
        self.data = replace(data, train=training_subset(data, np.sort(rows)))
        self.settings = settings
        self.execution = ExecutionFormat(device="cpu", threads=threads)
        self.candidate = half_width_candidate(NETS[settings.net])

    @cached_property
    def half_trained(self) -> nn.Module:
        """The wide net after half of the epochs."""
        return self.train(self.build(self.candidate.widths), self.settings.epochs / 2)

    def build(self, widths: Mapping[str, int]) -> nn.Module:
        """The net in these widths with fresh weights."""
        torch.manual_seed(self.settings.seed)
        return load("space", "plain").build(
            self.candidate.architecture, input_shape=self.data.input_shape, classes=len(self.data.classes),
            widths=widths,
        )  # fmt: skip

    def train(self, net: nn.Module, epochs: float, *, part: int = 0) -> nn.Module:
        """The net trained in place for one schedule; `part` changes the order of the faces."""
        train(
            net, self.data.train, classes=len(self.data.classes), epochs=epochs, seed=100 * self.settings.seed + part,
            recipe=recipe_for(sum(p.numel() for p in net.parameters())), execution=self.execution,
        )  # fmt: skip
        return net

    def accuracy(self, net: nn.Module) -> float:
        """Accuracy 0..1 on the selection split."""
        predicted = predict(net, self.data.val.images, execution=self.execution).argmax(1)
        return float((predicted == self.data.val.labels).mean())

    def run(self, settings: RowSettings) -> dict[str, Any]:
        """The figures of a row."""
        begin = time.perf_counter()
        if settings.way != "pruned":
            net = self.train(
                self.build(self.candidate.widths if settings.way == "wide" else self.candidate.pruned), settings.epochs
            )
            pruning_figures: dict[str, Any] = {}
        else:
            net, pruning_figures = self.pruned(settings)
        params = sum(p.numel() for p in net.parameters())
        return {
            **asdict(settings), **pruning_figures, "accuracy": self.accuracy(net), "params": params,
            "seconds": time.perf_counter() - begin,
        }  # fmt: skip

    def pruned(self, settings: RowSettings) -> tuple[nn.Module, dict[str, Any]]:
        """The small net by pruning, and its accuracies directly after each step."""
        net, after, fresh = self.half_trained, [], []
        steps = width_schedule(self.candidate, n_steps=settings.steps, channel_multiple=MULTIPLE)
        for part, widths in enumerate(steps, start=1):
            slim = self.build(widths)
            transfer_channels(net, slim, input_shape=self.data.input_shape, score=self.score(settings, net))
            after.append(self.accuracy(slim.eval()))
            fresh.append(self.accuracy(with_fresh_statistics(slim, self.faces[0])))
            net = self.train(slim, settings.epochs / 2 / len(steps), part=part)
        return net, {"before": self.accuracy(self.half_trained), "after": after, "fresh": fresh}

    def score(self, settings: RowSettings, net: nn.Module) -> ScoreFunction:
        """The row's criterion applied to a net."""
        if settings.criterion == RANDOM:
            return random_scores(settings.seed)
        images, labels = self.faces
        context = CompressionContext(
            candidate=self.candidate, profile=load_target("cpu"), input_shape=self.data.input_shape, images=images,
            labels=labels,
        )  # fmt: skip
        return bind_criterion(settings.criterion, net, context)

    @property
    def faces(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Training faces spread evenly over the split, as in a search, and their labels."""
        rows = np.linspace(0, len(self.data.train) - 1, FACES).astype(int)
        return self.data.train.images[rows], np.asarray(self.data.train.labels[rows], dtype=np.int64)


def training_subset(data: FaceData, rows: npt.NDArray[np.int64]) -> Split:
    """The split of these training faces."""
    return Split(images=data.train.images[rows], labels=data.train.labels[rows])


def half_width_candidate(index: int) -> Candidate:
    """The candidate of an initial net without half of its channels."""
    space = load("space", "plain")
    configuration = dict(space.initial_configurations(channel_multiple=MULTIPLE)[index])
    configuration |= {f"sparsity.{stage}": SPARSITY for stage in space.stages}
    return decode(space, configuration, channel_multiple=MULTIPLE, precisions=(32,))


def random_scores(seed: int) -> ScoreFunction:
    """Random scores."""

    def score(layers: Mapping[str, nn.Module]) -> tuple[dict[str, npt.NDArray[np.float64]], dict[str, Any]]:
        rng = np.random.default_rng(seed)
        return {name: rng.random(len(layer.get_parameter("weight"))) for name, layer in layers.items()}, {}

    return score


def with_fresh_statistics(net: nn.Module, images: npt.NDArray[np.uint8]) -> nn.Module:
    """A copy whose batch norms hold the statistics of these images."""
    copied = copy.deepcopy(net).train()
    for module in copied.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # one forward pass replaces the running statistics
    with torch.no_grad():
        copied(torch.from_numpy(images.copy()).float())
    return copied.eval()


def all_row_settings(seeds: int, epochs: float, faces: int, subset: int) -> Iterator[RowSettings]:
    """The settings of all rows, seed by seed."""
    for seed in range(seeds):
        for net in NETS:
            for way, steps in WAYS:
                yield RowSettings(net, seed, faces, epochs, way, steps, "l1" if steps else "")
            for criterion in (*CRITERIA, RANDOM):
                yield RowSettings(net, seed, subset, epochs, "pruned", 1, criterion)


def measured(
    wanted: list[RowSettings], data: FaceData, threads: int, cache: Path, minutes: float
) -> list[dict[str, Any]]:
    """The rows of all settings; missing ones are trained and cached, but none is started after `minutes`."""
    begin = time.monotonic()
    known = [json.loads(line) for line in cache.read_text().splitlines()] if cache.exists() else []
    case: RowTrainer | None = None
    rows = []
    for settings in wanted:
        row = next(
            (row for row in known if all(row.get(key) == value for key, value in asdict(settings).items())), None
        )
        if row is None and time.monotonic() - begin > 60 * minutes:
            continue
        if row is None:
            is_same_case = case is not None and (case.settings.net, case.settings.seed, case.settings.images) == (
                settings.net,
                settings.seed,
                settings.images,
            )
            case = case if is_same_case and case else RowTrainer(settings, data, threads)
            row = case.run(settings)
            with cache.open("a") as file:
                file.write(json.dumps(row) + "\n")
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], *, faces: int, full: int) -> list[list[str]]:
    """One line per net and way, over its seeds."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["images"] != full, row["net"], row["way"], row["steps"], row["criterion"]), []).append(
            row
        )
    lines = [["faces", "net", "way", "weights", "right after", "fresh", "accuracy", "95 %", "seeds"]]
    for (_, net, way, steps, criterion), group in groups.items():
        accuracies = [row["accuracy"] for row in group]
        low, high = wilson_interval(round(mean(accuracies) * faces), faces)
        way_text = f"{way}, {steps} step{'s' * (steps > 1)}, {criterion}" if steps else way
        lines.append([
            f"{group[0]['images']:,}", net, way_text, f"{group[0]['params']:,}", *_after(group),
            f"{mean(accuracies):.1%}",
            f"{low:.1%} to {high:.1%}", f"{min(accuracies):.1%} to {max(accuracies):.1%} ({len(accuracies)})",
        ])  # fmt: skip
    return lines


def _after(group: list[dict[str, Any]]) -> list[str]:
    def words(values: Callable[[dict[str, Any]], list[float]]) -> str:
        return f"{mean(values(row)[-1] for row in group):.1%}" if "after" in group[0] else ""

    return [words(lambda row: row["after"]), words(lambda row: row["fresh"])]


def main() -> None:
    """Train what is missing, print the table, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--subset", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="start no row after these; 0 prints the cached rows"
    )
    parser.add_argument("--cache", type=Path, default=Path("runs/prune_or_scratch.jsonl"))
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = load_data(args.dataset, args.data)
    args.cache.parent.mkdir(parents=True, exist_ok=True)
    full = len(data.train)
    rows = measured(
        list(all_row_settings(args.seeds, args.epochs, full, args.subset)), data, args.threads, args.cache, args.minutes
    )
    lines = table(rows, faces=len(data.val), full=full)
    if args.markdown:
        lines.insert(1, ["---"] * len(lines[0]))
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        for line in lines:
            print("  ".join(cell.rjust(18) for cell in line))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
