"""What a teacher gives to a small student on FER2013: each lesson against labels alone, at equal epochs and seeds.

    python -m benchmarks.distill --data fer2013.csv [--lessons logits dkd] [--sizes small] [--seeds 3] [--json out.json]

The teacher is a residual net trained here; the students are plain nets of two sizes with fresh weights. All figures
are accuracies on PublicTest in per cent (one standard error is 0.8 points at 3,589 faces, less for the difference of
two students, who share faces and most mistakes). `gain` is the mean difference to labels alone over the seeds, and
`+-` its standard error over them. Finished trainings are kept below --cache; a second call goes on.
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
    """A net of the space `plain` that halves its map at every stage, with weights drawn from torch's present state."""
    space = load("space", "plain")
    picked: dict[str, Value] = {choice.name: choice.options[0] for choice in space.choices(channel_multiple=8)}
    seed = next(s for s in space.seeds(channel_multiple=8) if s["stage2.block"] == block)
    architecture = space.decode(picked | seed)
    own = space.widths(architecture)
    chosen = dict(zip(own, widths, strict=True))
    net: nn.Module = space.build(architecture, input_shape=data.input_shape, classes=len(data.classes), widths=chosen)
    return net


@dataclass(frozen=True)
class Bench:
    """The faces, what is kept, and how long nets learn."""

    data: FaceData
    cache: Path
    epochs: float
    teacher_epochs: float

    def teacher(self) -> Path:
        """The teacher's file."""
        path = self.cache / f"teacher-{self.teacher_epochs:g}.onnx"
        if not path.exists():
            torch.manual_seed(0)
            net = build(self.data, **TEACHER)  # type: ignore[arg-type]  # two words of different types
            self._fit(net, epochs=self.teacher_epochs, seed=0, course=None)
            graph = fold(net, input_shape=self.data.input_shape)
            metadata = {"dataset_digest": self.data.digest}
            export_onnx(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata=metadata)
        return path

    def course(self, lesson: str, *, temperature: float, alpha: float) -> Distillation:
        """What a student learns from the teacher."""
        run = RunFolder(self.cache / f"answers-{lesson}-{self.teacher_epochs:g}")
        (run.path / "locks").mkdir(parents=True, exist_ok=True)
        sources = find_teachers([str(self.teacher())], self.data)
        room = TeacherOutputs(sources=sources, method=load("method", lesson), data=self.data, folder=run, log=_say)
        return room.build_distillation(temperature=temperature, alpha=alpha)

    def student(self, size: str, seed: int, lesson: str, *, temperature: float, alpha: float) -> dict[str, Any]:
        """One training, or what is kept of it: accuracy 0..1 and mean cross entropy in nats on PublicTest."""
        setting = "" if lesson == ALONE else f"-T{temperature:g}-a{alpha:g}"
        kept = self.cache / f"{size}-{seed}-{lesson.replace(' ', '_')}{setting}-{self.epochs:g}.json"
        if not kept.exists():
            course = None if lesson == ALONE else self.course(lesson, temperature=temperature, alpha=alpha)
            torch.manual_seed(seed)
            net = build(self.data, widths=STUDENTS[size])
            seconds = self._fit(net, epochs=self.epochs, seed=seed, course=course)
            said = predict(net, self.data.val.images, execution=EXECUTION)
            row = {"size": size, "seed": seed, "lesson": lesson, "setting": setting, "epochs": self.epochs}
            row |= {"params": sum(p.numel() for p in net.parameters()), "seconds": seconds}
            kept.write_text(json.dumps(row | self._score(said)))
        found: dict[str, Any] = json.loads(kept.read_text())
        return found

    def _score(self, said: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, float]:
        labels = self.data.val.labels
        spoken = np.log(np.maximum(said[np.arange(len(labels)), labels], 1e-12))
        return {"accuracy": float((said.argmax(1) == labels).mean()), "cross_entropy": float(-spoken.mean())}

    def _fit(self, net: nn.Module, *, epochs: float, seed: int, course: Distillation | None) -> float:
        recipe = recipe_for(sum(p.numel() for p in net.parameters()))
        curve = train(
            net, self.data.train, classes=len(self.data.classes), epochs=epochs, recipe=recipe, execution=EXECUTION,
            seed=seed, distillation=course, on_progress=lambda epoch, loss: _say(f"epoch {epoch:.1f}, loss {loss:.2f}"),
        )  # fmt: skip
        return curve.seconds


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of text: for each size and lesson the seeds' accuracies and the gain over labels alone."""
    lines = ["student  weights  lesson              accuracies of the seeds     mean   gain    +-   cross entropy"]
    for size in STUDENTS:
        mine = [row for row in rows if row["size"] == size]
        alone = {row["seed"]: row for row in mine if row["lesson"] == ALONE}
        for lesson, setting in dict.fromkeys((row["lesson"], row["setting"]) for row in mine):
            group = [row for row in mine if (row["lesson"], row["setting"]) == (lesson, setting)]
            found = [100 * row["accuracy"] for row in group]
            gains = [100 * (row["accuracy"] - alone[row["seed"]]["accuracy"]) for row in group]
            error = np.std(gains, ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else float("nan")
            nats = np.mean([row["cross_entropy"] for row in group])
            gained = "               " if lesson == ALONE else f"{np.mean(gains):+6.2f}  {error:5.2f}"
            words = " ".join(f"{value:.2f}" for value in found)
            who = f"{size:8s} {group[0]['params']:7,d}  {lesson + setting:18s}"
            lines.append(f"{who}  {words:26s}  {np.mean(found):5.2f} {gained}  {nats:.3f}")
    return lines


def main() -> None:
    """Parse, train what is not kept, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="fer2013.csv")
    parser.add_argument("--lessons", nargs="+", default=list(names("method")), help="words of nas.distillation.methods")
    parser.add_argument("--sizes", nargs="+", default=list(STUDENTS), help="of the students")
    parser.add_argument("--epochs", type=float, default=6, help="of each student")
    parser.add_argument("--teacher-epochs", type=float, default=8)
    parser.add_argument("--temperature", type=float, default=4)
    parser.add_argument("--alpha", type=float, default=0.7)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path("runs/distill"))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    data = load_data("fer2013", asked.data)
    asked.cache.mkdir(parents=True, exist_ok=True)
    bench = Bench(data, asked.cache, asked.epochs, asked.teacher_epochs)
    rows = []
    for seed in range(asked.seeds):
        for size in asked.sizes:
            for lesson in (ALONE, *asked.lessons):
                row = bench.student(size, seed, lesson, temperature=asked.temperature, alpha=asked.alpha)
                print(f"\r{size} {lesson}, seed {seed}: {row['accuracy']:.2%}, {row['seconds']:.0f} s", flush=True)
                rows.append(row)
    facts = json.loads(next(asked.cache.glob(f"answers-*-{asked.teacher_epochs:g}/teacher/teachers.json")).read_text())
    print(
        f"teacher: {facts[0]['train_accuracy']:.2%} of the training faces, {teacher_accuracy(bench):.2%} of PublicTest"
    )
    print("\n".join(table(rows)))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))


def teacher_accuracy(bench: Bench) -> float:
    """Accuracy of the teacher's file on PublicTest, 0..1."""
    session = load("runtime", "onnxruntime").load(bench.teacher())
    right = session.predict(bench.data.val.images).argmax(1) == bench.data.val.labels
    session.close()
    return float(right.mean())


def _say(words: str) -> None:
    print(f"\r{words:60s}", end="", flush=True)


if __name__ == "__main__":
    main()
