"""Teachers' answers to the training images: computed once, kept in the run's folder, and made into a course.

teacher/teachers.json             who teaches, with digests, what is kept of each and how large it is
teacher/SHA-DATA-logits.npy       [N, K] float32, for the unchanged training images in order
teacher/SHA-DATA-attention.npz    what layers hold, pooled to at most 8 x 8, float16; likewise -features
"""

import io
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas import registry
from nas.data.base import FaceData
from nas.distillation.base import Course, Floats, Lesson, Level, Teacher, Teaching
from nas.distillation.onnx_teacher import TeacherFile, asking
from nas.distillation.teacher_features import levels
from nas.distillation.teachers import RUNTIME, Source
from nas.errors import ConfigError
from nas.results.run_folder import RunFolder
from nas.runtimes.base import Runtime

logger = logging.getLogger(__name__)

FOLDER = "teacher"
_FLOOR = 1e-8
"""The least probability, where logits are logarithms of probabilities."""
_ROUNDING = 0.01
"""How far from 1 sums of probabilities may be that a file has rounded."""
_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class Classroom:
    """Teachers, what they are asked, and the folder that keeps it.

    Attributes:
        sources: the teachers.
        lesson: how nets learn from them.
        data: whose training images they answer.
        folder: of the run.
        threads: of the runtime.
        say: told what is being done.
    """

    sources: Sequence[Source]
    lesson: Lesson
    data: FaceData
    folder: RunFolder
    threads: int = 1
    say: Callable[[str], None] = lambda _: None

    def course(self, *, temperature: float, alpha: float) -> Course:
        """The course of these teachers; what they have answered before is read from the folder.

        Raises:
            ConfigError: a teacher has changed since the run was started, or none has the layers that the lesson needs.
        """
        (self.folder.path / FOLDER).mkdir(exist_ok=True)
        with self.folder.claim(FOLDER, wait=True):
            self._same_teachers()
            teachers = [
                Teacher(logits=self._logits(source), weight=source.weight, levels=self._levels(source))
                for source in self.sources
            ]
            self._tell(teachers)
        if self.lesson.wants != "logits" and not any(teacher.levels for teacher in teachers):
            raise ConfigError(
                f"--distill {self.lesson.name} needs a teacher with layers, an ONNX file of a convolutional net, but "
                f"{', '.join(s.name for s in self.sources)} has none; use --distill logits"
            )

        def course(which: Sequence[tuple[Source, Teacher]]) -> Course:
            teaching = Teaching(teachers=[teacher for _, teacher in which], temperature=temperature, alpha=alpha)
            about = self._about([source for source, _ in which], temperature, alpha)
            return Course(lesson=self.lesson, teaching=teaching, about=about)

        together = list(zip(self.sources, teachers, strict=True))
        alone = [[(source, replace(teacher, weight=1.0))] for source, teacher in together] if teachers[1:] else []
        apart = {name: course(one) for name, one in zip(teacher_names(self.sources), alone, strict=False)}
        return replace(course(together), apart=apart)

    def _logits(self, source: Source) -> Floats:
        if source.answers is not None:
            return as_logits(source.answers)[:, source.columns]
        path = self.folder.path / self._kept(source, "logits.npy")
        if source.file is not None and not path.exists():
            found = io.BytesIO()
            np.save(found, as_logits(self._answers(source, source.file))[:, source.columns])
            self.folder.write(self._kept(source, "logits.npy"), found.getvalue())
        logits: Floats = np.load(path)
        return logits

    def _answers(self, source: Source, file: TeacherFile) -> Floats:
        images = self.data.train.images
        parts = []
        with asking(file, runtime=_runtime(), pixels=source.pixels, threads=self.threads) as answer:
            for at in range(0, len(images), _CHUNK):
                parts.append(answer(images[at : at + _CHUNK]))
                self.say(f"teacher {source.name}: {min(at + _CHUNK, len(images))} of {len(images)} images")
        return np.concatenate(parts)

    def _levels(self, source: Source) -> tuple[Level, ...]:
        if self.lesson.wants == "logits" or source.file is None:
            return ()
        name = self._kept(source, f"{self.lesson.wants}.npz")
        path = self.folder.path / name
        if not path.exists():
            found = levels(
                source.file, self.lesson.wants, self.data.train.images, runtime=_runtime(), pixels=source.pixels,
                threads=self.threads,
                say=lambda done: self.say(f"teacher {source.name}, layers: {done} of {len(self.data.train)} images"),
            )  # fmt: skip
            arrays = {f"level{i}": level.values for i, level in enumerate(found)}
            content = io.BytesIO()
            np.savez(content, allow_pickle=False, scales=np.array([level.scale for level in found]), **arrays)
            self.folder.write(name, content.getvalue())
        held = np.load(path)
        return tuple(Level(scale=float(s), values=held[f"level{i}"]) for i, s in enumerate(held["scales"]))

    def _kept(self, source: Source, what: str) -> str:
        return f"{FOLDER}/{source.sha256[:12]}-{self.data.digest[:12]}-{what}"

    def _same_teachers(self) -> None:
        """Make sure that all nets of a run have the same teachers."""
        file = self.folder.path / FOLDER / "teachers.json"
        if not file.exists():
            return
        before = {entry["sha256"] for entry in json.loads(file.read_text())}
        changed = [source.name for source in self.sources if source.sha256 not in before]
        if changed:
            raise ConfigError(
                f"{self.folder.path} was started with another {', '.join(changed)}: the teacher's file has changed "
                "since; give this run a --name of its own"
            )

    def _tell(self, teachers: Sequence[Teacher]) -> None:
        """Write down who teaches and what is kept, and say what a reader has to know, once."""
        if (self.folder.path / FOLDER / "teachers.json").exists():
            return
        labels, facts = self.data.train.labels, []
        for source, teacher in zip(self.sources, teachers, strict=True):
            kept = {
                path.name: path.stat().st_size
                for path in sorted((self.folder.path / FOLDER).glob(f"{source.sha256[:12]}-*.np*"))
            }
            right = float((teacher.logits.argmax(1) == labels).mean())
            facts.append({
                "name": source.name, "weight": source.weight, "sha256": source.sha256, "data": self.data.digest,
                "pixels": source.pixels, "train_accuracy": right, "kept_bytes": kept, "notes": source.notes,
            })  # fmt: skip
            for note in source.notes:
                logger.warning("%s", note)
            if right < 2 / len(self.data.classes):
                logger.warning("teacher %s is right on only %.0f %% of the training faces", source.name, 100 * right)
        self.folder.write(f"{FOLDER}/teachers.json", json.dumps(facts, indent=1))

    def _about(self, sources: Sequence[Source], temperature: float, alpha: float) -> str:
        shares = len(sources) > 1
        who = [f"{s.name} {s.sha256[:12]}" + (f" x {s.weight:.2g}" if shares else "") for s in sources]
        return f"{self.lesson.name} from {' + '.join(who)} (T {temperature:g}, alpha {alpha:g})"


def teacher_names(sources: Sequence[Source]) -> list[str]:
    """A name for each teacher, each once: the file's, with some of its digest where several share it."""
    names = [source.name for source in sources]
    return [f"{s.name} {s.sha256[:6]}" if names.count(s.name) > 1 else s.name for s in sources]


def as_logits(answers: Floats) -> Floats:
    """Answers [N, K] as logits: themselves, or their logarithms where every row is of probabilities (sums to 1)."""
    is_shares = bool((answers >= 0).all() and (np.abs(answers.sum(1) - 1) <= _ROUNDING).all())
    return np.log(np.maximum(answers, _FLOOR)).astype(np.float32) if is_shares else answers.astype(np.float32)


def _runtime() -> Runtime:
    runtime: Runtime = registry.load("runtime", RUNTIME)
    return runtime
