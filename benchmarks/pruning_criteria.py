"""Ways to prune a trained net, each fine-tuned in the same loop: criteria, steps, global ranking, and torch-pruning.

    python -m benchmarks.pruning_criteria --data fer2013.csv --nets a.onnx b.onnx [--seeds 0 1] [--epochs 2]
        [--ways l1 taylor tp:l1 tp:taylor taylor:2 taylor:global] [--sparsity 0.5] [--latency] [--cache OUT.jsonl]

A net is a float ONNX file of the space `plain`, or a family of `benchmarks.compression`, which is trained once. A way
is a criterion, and after a colon a number of pruning steps or `global`; `tp:` is torch-pruning 1.6 with the same grid
of widths; `random` is the baseline. All rows of a net and seed are fine-tuned on the same images in the same order, so
differences are paired. Steps share the epochs, and each step has a learning-rate schedule of its own, as in a search.

- `layer` rows remove the share of the channels of each stage; `global` rows keep as many MACs as these.
- `right after` is the accuracy before fine-tuning.
- `points` is the mean difference from the first way, with its standard error over nets and seeds.
- `latency`, with `--latency`, is that of the file as a share of the whole net's: the ratio of 5th percentiles, timed
  side by side on one thread.

Finished rows are cached and not trained again.
"""

import argparse
import copy
import json
import math
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks._compression_nets import FAMILIES, TrainedNet
from benchmarks._plain_file import plain_net_of_file
from benchmarks.prune_or_scratch import random_scores
from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.compression.compressors.prune_structured import transfer_channels
from nas.compression.pipeline import CompressionPipeline
from nas.compression.pruning.global_ranking import prune_globally
from nas.compression.pruning.group_importance import ScoreFunction, bind_criterion
from nas.compression.pruning.schedule import width_schedule
from nas.data.base import FaceData
from nas.data.loading import load_data
from nas.latency.costs import compute_costs
from nas.latency.measured.timing import measure_interleaved
from nas.models.user_model import UserModelSpace
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.registry import load
from nas.targets.catalog import load_target
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import predict, train
from nas.training.model_builder import IMPORTANCE_IMAGES
from nas.training.recipe import recipe_for
from nas.training.trainer import MIN_LR_SCALE

MULTIPLE = 8
RANDOM, GLOBAL, PEER = "random", "global", "tp"
STATISTICS_IMAGES = 1024
PEER_BATCH = 256
DEFAULT_WAYS = ("l1", "taylor", "tp:l1", "tp:taylor", "random")


@dataclass(frozen=True)
class RowSettings:
    """The settings of one row."""

    net: str
    seed: int
    way: str
    sparsity: float
    epochs: float
    lr_scale: float

    @property
    def criterion(self) -> str:
        """The criterion's name."""
        return self.way.removeprefix(f"{PEER}:").split(":")[0]

    @property
    def is_peer(self) -> bool:
        """Whether torch-pruning prunes."""
        return self.way.startswith(f"{PEER}:")

    @property
    def is_global(self) -> bool:
        """Whether all layers compete."""
        return self.way.endswith(f":{GLOBAL}")

    @property
    def steps(self) -> int:
        """Number of pruning steps."""
        last = self.way.split(":")[-1]
        return int(last) if last.isdigit() else 1


class NetToPrune:
    """A trained net, and what prunes it."""

    def __init__(
        self, name: str, net: nn.Module, data: FaceData, execution: ExecutionFormat, *, is_timed: bool
    ) -> None:
        self.data, self.execution, self.is_timed = data, execution, is_timed
        self.space = UserModelSpace(name, net.eval(), input_shape=data.input_shape, channel_multiple=MULTIPLE)

    @cached_property
    def whole(self) -> nn.Module:
        """The net itself."""
        return self.space.build({}, input_shape=self.data.input_shape, classes=len(self.data.classes))

    @cached_property
    def context(self) -> CompressionContext:
        """Images and labels that rank channels, as in a search."""
        rows = self.data.train.evenly_spread_rows(IMPORTANCE_IMAGES)
        return CompressionContext(
            candidate=self.candidate(0.0), profile=load_target("cpu"), input_shape=self.data.input_shape,
            images=self.data.train.images[rows], labels=np.asarray(self.data.train.labels[rows], dtype=np.int64),
        )  # fmt: skip

    def candidate(self, sparsity: float) -> Candidate:
        """The candidate without this share of the channels of each stage."""
        pipeline = CompressionPipeline(compressors=[load("compressor", "prune_structured")], profile=load_target("cpu"))
        return pipeline.decode(self.space, {f"sparsity.{stage}": sparsity for stage in self.space.stages})

    def build(self, widths: Mapping[str, int]) -> nn.Module:
        """The net in these widths; its weights are to be replaced."""
        return self.space.build(
            {}, input_shape=self.data.input_shape, classes=len(self.data.classes), widths=widths
        )  # fmt: skip

    def accuracy(self, net: nn.Module) -> float:
        """Accuracy 0..1 on the selection split."""
        return float((predict(net, self.data.val.images, execution=self.execution).argmax(1) == self.labels).mean())

    @cached_property
    def labels(self) -> Any:
        """Labels of the selection split."""
        return self.data.val.labels

    def run(self, settings: RowSettings) -> dict[str, Any]:
        """The figures of a row."""
        begin = time.perf_counter()
        after: list[float] = []
        if settings.is_global or settings.is_peer:
            net = self._peer(settings) if settings.is_peer else self._global(settings)
            after.append(self.accuracy(net))
            self._train(net, settings, settings.epochs, part=1)
        else:
            net = self.whole
            candidate = self.candidate(settings.sparsity)
            steps = width_schedule(candidate, n_steps=settings.steps, channel_multiple=MULTIPLE)
            for part, widths in enumerate(steps, start=1):
                slim = self.build(widths)
                score = self._score(settings, net)
                transfer_channels(net, slim, input_shape=self.data.input_shape, score=score)
                after.append(self.accuracy(slim))
                net = self._train(slim, settings, settings.epochs / len(steps), part=part)
        return {
            **asdict(settings), "after": after[-1], "accuracy": self.accuracy(net),
            "macs": self._macs(net) / self.whole_macs, "params": sum(p.numel() for p in net.parameters()),
            "latency": self._latency_share(net) if self.is_timed else None,
            "seconds": time.perf_counter() - begin,
        }  # fmt: skip

    def _train(self, net: nn.Module, settings: RowSettings, epochs: float, *, part: int) -> nn.Module:
        train(
            net, self.data.train, classes=len(self.data.classes), epochs=epochs, seed=100 * settings.seed + part,
            recipe=recipe_for(sum(p.numel() for p in net.parameters())), execution=self.execution,
            lr_scale=settings.lr_scale,
        )  # fmt: skip
        return net

    def _score(self, settings: RowSettings, net: nn.Module) -> ScoreFunction:
        if settings.criterion == RANDOM:
            return random_scores(settings.seed)
        return bind_criterion(settings.criterion, net, self.context)

    @cached_property
    def whole_macs(self) -> float:
        """Multiply-accumulates of the whole net."""
        return self._macs(self.whole)

    def _macs(self, net: nn.Module) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return float(compute_costs(self._export(net, Path(folder) / "model.onnx")).macs)

    def _export(self, net: nn.Module, path: Path) -> Path:
        graph = fold(copy.deepcopy(net).eval(), input_shape=self.data.input_shape)
        export_onnx(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata={})
        return path

    def _latency_share(self, net: nn.Module) -> float:
        with tempfile.TemporaryDirectory() as folder:
            files = [self._export(each, Path(folder) / f"{i}.onnx") for i, each in enumerate((self.whole, net))]
            whole, slim = measure_interleaved(
                files, load("runtime", "onnxruntime"), device="this machine", input_shape=self.data.input_shape
            )
        return (slim.p5_ms or math.nan) / (whole.p5_ms or math.nan)

    def _macs_share(self, sparsity: float) -> float:
        """Share of the MACs that is left where each stage loses this share of its channels."""
        return self._macs(self.build(self.candidate(sparsity).pruned)) / self.whole_macs

    def _global(self, settings: RowSettings) -> nn.Module:
        return prune_globally(
            self.whole, input_shape=self.data.input_shape, macs_share=self._macs_share(settings.sparsity),
            channel_multiple=MULTIPLE, score=self._score(settings, self.whole),
        )  # fmt: skip

    def _peer(self, settings: RowSettings) -> nn.Module:
        """The net pruned by torch-pruning; with a global ranking, to at most the MACs of equal shares."""
        if not settings.is_global:
            return self._peer_at(settings, settings.sparsity)
        target = self._macs_share(settings.sparsity)
        for percent in range(2, 90, 2):
            net = self._peer_at(settings, percent / 100)
            if self._macs(net) / self.whole_macs <= target:
                return net
        raise ValueError(f"torch-pruning cannot reach {target:.1%} of the MACs")

    def _peer_at(self, settings: RowSettings, ratio: float) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch_pruning as tp

            net = copy.deepcopy(self.whole)
            example = torch.zeros(1, *self.data.input_shape)
            if settings.criterion == "taylor":
                importance = tp.importance.GroupTaylorImportance()
                self._accumulate_gradients(net)
            else:
                importance = tp.importance.GroupMagnitudeImportance(p={"l1": 1, "l2": 2}[settings.criterion])
            ignored = [
                m for name, m in net.named_modules() if name.split(".")[0] in ("prepare", "stem", "head") and name
            ]
            tp.pruner.BasePruner(
                net, example, importance, pruning_ratio=ratio, round_to=MULTIPLE, ignored_layers=ignored,
                global_pruning=settings.is_global, max_pruning_ratio=0.9,
            ).step()  # fmt: skip
        net.zero_grad(set_to_none=True)
        return net.eval()

    def _accumulate_gradients(self, net: nn.Module) -> None:
        """Gradients of the same images that our criteria see, in eval mode."""
        net.zero_grad()
        images, labels = torch.from_numpy(self.context.images).float(), torch.from_numpy(self.context.labels)
        for pixels, classes in zip(images.split(PEER_BATCH), labels.split(PEER_BATCH), strict=True):
            (functional.cross_entropy(net(pixels), classes, reduction="sum") / len(images)).backward()


def load_net(word: str, data: FaceData, args: argparse.Namespace) -> NetToPrune:
    """The net of an ONNX file or of a family."""
    if word in FAMILIES:
        trained = TrainedNet(word, data, epoch_scale=1.0, cache_dir=args.cache.parent, log=print).load_or_train()
        return NetToPrune(
            word, trained.net, data, replace(trained.execution, threads=args.threads), is_timed=args.latency
        )
    images = data.train.images[data.train.evenly_spread_rows(STATISTICS_IMAGES)]
    net = plain_net_of_file(Path(word), images, input_shape=data.input_shape, classes=len(data.classes))
    execution = ExecutionFormat(memory_format="channels_last", precision="bf16", threads=args.threads)
    return NetToPrune(Path(word).stem, net, data, execution, is_timed=args.latency)


def measured(words: list[str], ways: list[str], args: argparse.Namespace, data: FaceData) -> list[dict[str, Any]]:
    """The rows of all settings, net by net and seed by seed; missing ones are trained and cached."""
    known = [json.loads(line) for line in args.cache.read_text().splitlines()] if args.cache.exists() else []
    rows = []
    for word in words:
        net: NetToPrune | None = None
        for seed in args.seeds:
            for way in ways:
                settings = RowSettings(Path(word).stem, seed, way, args.sparsity, args.epochs, args.lr_scale)
                row = next((r for r in known if all(r[k] == v for k, v in asdict(settings).items())), None)
                if row is None:
                    net = net or load_net(word, data, args)
                    row = net.run(settings)
                    with args.cache.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], ways: list[str]) -> list[list[str]]:
    """One line per way, over nets and seeds."""
    by_way = {way: {(row["net"], row["seed"]): row for row in rows if row["way"] == way} for way in ways}
    first = by_way[ways[0]]
    lines = [["way", "MACs", "latency", "right after", "accuracy", "points", "each"]]
    for way, group in by_way.items():
        differences = [100 * (row["accuracy"] - first[key]["accuracy"]) for key, row in group.items()]
        error = stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
        lines.append([
            way, f"{mean(row['macs'] for row in group.values()):.1%}",
            _mean_text([row["latency"] for row in group.values()]),
            f"{mean(row['after'] for row in group.values()):.1%}",
            f"{mean(row['accuracy'] for row in group.values()):.2%}",
            "" if way == ways[0] else f"{mean(differences):+.2f} +- {error:.2f}",
            " ".join(f"{100 * row['accuracy']:.2f}" for row in group.values()),
        ])  # fmt: skip
    return lines


def _mean_text(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{mean(known):.2f}" if known else ""


def main() -> None:
    """Train what is missing, print the table, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nets", nargs="+", default=["residual"])
    parser.add_argument("--ways", nargs="+", default=list(DEFAULT_WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--sparsity", type=float, default=0.5, help="share of the channels of each stage")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--lr-scale", type=float, default=MIN_LR_SCALE, help="share of the peak learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("runs/pruning_criteria.jsonl"))
    parser.add_argument("--latency", action="store_true", help="time the files; waits for an idle machine")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = load_data(args.dataset, args.data)
    args.cache.parent.mkdir(parents=True, exist_ok=True)
    rows = measured(args.nets, args.ways, args, data)
    lines = table(rows, args.ways)
    if args.markdown:
        lines.insert(1, ["---"] * len(lines[0]))
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        for line in lines:
            print("  ".join(cell.rjust(16) for cell in line))
    print(f"accuracy on {data.val_name}, {len(data.val):,} faces; nets and seeds in the order given")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
