"""Distillation of a small student on FER2013: each method against labels alone, at equal epochs and seeds.

    python -m benchmarks.distill --data fer2013.csv [--methods logits dkd] [--sizes small] [--seeds 3] [--json out.json]

The teacher is a residual net trained here; the students are plain nets of two sizes with fresh weights. All figures are
accuracies on PublicTest in per cent. One standard error is 0.8 points at 3,589 faces, and less for the difference of
two students, which share the faces and most mistakes. `gain` is the mean difference in points from labels alone over
the seeds, and `+-` its standard error over them. Finished trainings are cached below --cache, so a second call resumes.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas.data.base import FaceData
from nas.data.loading import load_data
from nas.distillation.base import Distillation
from nas.distillation.teacher_outputs import TeacherOutputs
from nas.distillation.teachers import find_teachers
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.registry import load, names
from nas.results.run_folder import RunFolder
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import predict, train
from nas.training.recipe import recipe_for
from search_spaces._base import Value

EXECUTION = ExecutionFormat(memory_format="channels_last", precision="bf16", threads=1)
TEACHER = {"widths": (16, 32, 64, 96), "block": "residual"}
STUDENTS = {"tiny": (8, 16, 24, 32), "small": (16, 24, 48, 64)}
ALONE = "labels alone"


def build(data: FaceData, *, widths: tuple[int, ...], block: str = "dense") -> nn.Module:
    """A net of the space `plain` that halves its map at every stage; weights are drawn from torch's current state."""
    space = load("space", "plain")
    configuration: dict[str, Value] = {choice.name: choice.options[0] for choice in space.choices(channel_multiple=8)}
    seed = next(s for s in space.initial_configurations(channel_multiple=8) if s["stage2.block"] == block)
    architecture = space.decode(configuration | seed)
    stages = space.widths(architecture)
    stage_widths = dict(zip(stages, widths, strict=True))
    net: nn.Module = space.build(
        architecture, input_shape=data.input_shape, classes=len(data.classes), widths=stage_widths
    )
    return net


@dataclass(frozen=True)
class Bench:
    """Data, cache and lengths of the trainings.

    Attributes:
        data: faces.
        cache: folder of the teacher, its outputs and finished trainings.
        epochs: of a student.
        teacher_epochs: of the teacher.
    """

    data: FaceData
    cache: Path
    epochs: float
    teacher_epochs: float

    def teacher(self) -> Path:
        """The teacher's ONNX file, trained and exported on first use."""
        path = self.cache / f"teacher-{self.teacher_epochs:g}.onnx"
        if not path.exists():
            torch.manual_seed(0)
            net = build(self.data, **TEACHER)  # type: ignore[arg-type]  # two words of different types
            self._fit(net, epochs=self.teacher_epochs, seed=0, distillation=None)
            graph = fold(net, input_shape=self.data.input_shape)
            metadata = {"dataset_digest": self.data.digest}
            export_onnx(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata=metadata)
        return path

    def distillation(self, method: str, *, temperature: float, alpha: float) -> Distillation:
        """The distillation of a student by a method."""
        run = RunFolder(self.cache / f"answers-{method}-{self.teacher_epochs:g}")
        (run.path / "locks").mkdir(parents=True, exist_ok=True)
        sources = find_teachers([str(self.teacher())], self.data)
        outputs = TeacherOutputs(sources=sources, method=load("method", method), data=self.data, folder=run, log=_say)
        return outputs.build_distillation(temperature=temperature, alpha=alpha)

    def student(self, size: str, seed: int, method: str, *, temperature: float, alpha: float) -> dict[str, Any]:
        """Accuracy 0..1 and mean cross-entropy in nats on PublicTest of one training, from the cache if it is there."""
        setting = "" if method == ALONE else f"-T{temperature:g}-a{alpha:g}"
        path = self.cache / f"{size}-{seed}-{method.replace(' ', '_')}{setting}-{self.epochs:g}.json"
        if not path.exists():
            distillation = None if method == ALONE else self.distillation(method, temperature=temperature, alpha=alpha)
            torch.manual_seed(seed)
            net = build(self.data, widths=STUDENTS[size])
            seconds = self._fit(net, epochs=self.epochs, seed=seed, distillation=distillation)
            probabilities = predict(net, self.data.val.images, execution=EXECUTION)
            row = {"size": size, "seed": seed, "lesson": method, "setting": setting, "epochs": self.epochs}
            row |= {"params": sum(p.numel() for p in net.parameters()), "seconds": seconds}
            path.write_text(json.dumps(row | self._score(probabilities)))
        figures: dict[str, Any] = json.loads(path.read_text())
        return figures

    def _score(self, probabilities: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, float]:
        labels = self.data.val.labels
        log_likelihoods = np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12))
        return {
            "accuracy": float((probabilities.argmax(1) == labels).mean()),
            "cross_entropy": float(-log_likelihoods.mean()),
        }

    def _fit(self, net: nn.Module, *, epochs: float, seed: int, distillation: Distillation | None) -> float:
        recipe = recipe_for(sum(p.numel() for p in net.parameters()))
        curve = train(
            net, self.data.train, classes=len(self.data.classes), epochs=epochs, recipe=recipe, execution=EXECUTION,
            seed=seed, distillation=distillation,
            on_progress=lambda epoch, loss: _say(f"epoch {epoch:.1f}, loss {loss:.2f}"),
        )  # fmt: skip
        return curve.seconds


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The table's lines: for each size and method the accuracies by seed and the gain over labels alone."""
    lines = ["student  weights  method              accuracies of the seeds     mean   gain    +-   cross entropy"]
    for size in STUDENTS:
        size_rows = [row for row in rows if row["size"] == size]
        baseline = {row["seed"]: row for row in size_rows if row["lesson"] == ALONE}
        for method, setting in dict.fromkeys((row["lesson"], row["setting"]) for row in size_rows):
            group = [row for row in size_rows if (row["lesson"], row["setting"]) == (method, setting)]
            accuracies = [100 * row["accuracy"] for row in group]
            gains = [100 * (row["accuracy"] - baseline[row["seed"]]["accuracy"]) for row in group]
            error = np.std(gains, ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else float("nan")
            nats = np.mean([row["cross_entropy"] for row in group])
            gain = "               " if method == ALONE else f"{np.mean(gains):+6.2f}  {error:5.2f}"
            accuracy_text = " ".join(f"{value:.2f}" for value in accuracies)
            prefix = f"{size:8s} {group[0]['params']:7,d}  {method + setting:18s}"
            lines.append(f"{prefix}  {accuracy_text:26s}  {np.mean(accuracies):5.2f} {gain}  {nats:.3f}")
    return lines


def main() -> None:
    """Train what the cache lacks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="fer2013.csv")
    parser.add_argument("--methods", nargs="+", default=list(names("method")), help="names of nas.distillation.methods")
    parser.add_argument("--sizes", nargs="+", default=list(STUDENTS), help="sizes of the students")
    parser.add_argument("--epochs", type=float, default=6, help="epochs of each student")
    parser.add_argument("--teacher-epochs", type=float, default=8)
    parser.add_argument("--temperature", type=float, default=4)
    parser.add_argument("--alpha", type=float, default=0.7)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path("runs/distill"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = load_data("fer2013", args.data)
    args.cache.mkdir(parents=True, exist_ok=True)
    benchmark = Bench(data, args.cache, args.epochs, args.teacher_epochs)
    rows = []
    for seed in range(args.seeds):
        for size in args.sizes:
            for method in (ALONE, *args.methods):
                row = benchmark.student(size, seed, method, temperature=args.temperature, alpha=args.alpha)
                print(f"\r{size} {method}, seed {seed}: {row['accuracy']:.2%}, {row['seconds']:.0f} s", flush=True)
                rows.append(row)
    facts = json.loads(next(args.cache.glob(f"answers-*-{args.teacher_epochs:g}/teacher/teachers.json")).read_text())
    print(
        f"teacher: {facts[0]['train_accuracy']:.2%} of the training faces, "
        f"{teacher_accuracy(benchmark):.2%} of PublicTest"
    )
    print("\n".join(table(rows)))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


def teacher_accuracy(bench: Bench) -> float:
    """Accuracy 0..1 of the teacher's file on PublicTest."""
    session = load("runtime", "onnxruntime").load(bench.teacher())
    is_correct = session.predict(bench.data.val.images).argmax(1) == bench.data.val.labels
    session.close()
    return float(is_correct.mean())


def _say(text: str) -> None:
    print(f"\r{text:60s}", end="", flush=True)


if __name__ == "__main__":
    main()
