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
from nas.distillation.base import Distillation, DistillationMethod, FeatureMap, Floats, Teacher, TeacherEnsemble
from nas.distillation.onnx_teacher import OnnxTeacher, teacher_session
from nas.distillation.teacher_features import layer_features
from nas.distillation.teachers import TEACHER_RUNTIME, TeacherSource
from nas.errors import ConfigError
from nas.results.run_folder import RunFolder
from nas.runtimes.base import Runtime

logger = logging.getLogger(__name__)

TEACHER_FOLDER = "teacher"
_MIN_PROBABILITY = 1e-8
"""The least probability, where logits are logarithms of probabilities."""
_PROBABILITY_SUM_TOLERANCE = 0.01
"""How far from 1 sums of probabilities may be that a file has rounded."""
_CHUNK_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class TeacherOutputs:
    """Teachers, what they are asked, and the folder that keeps it.

    Attributes:
        sources: the teachers.
        lesson: how nets learn from them.
        data: whose training images they answer.
        folder: of the run.
        threads: of the runtime.
        say: told what is being done.
    """

    sources: Sequence[TeacherSource]
    method: DistillationMethod
    data: FaceData
    folder: RunFolder
    threads: int = 1
    log: Callable[[str], None] = lambda _: None

    def build_distillation(self, *, temperature: float, alpha: float) -> Distillation:
        """The course of these teachers; what they have answered before is read from the folder.

        Raises:
            ConfigError: a teacher has changed since the run was started, or none has the layers that the lesson needs.
        """
        (self.folder.path / TEACHER_FOLDER).mkdir(exist_ok=True)
        with self.folder.lock(TEACHER_FOLDER, wait=True):
            self._check_same_teachers()
            teachers = [
                Teacher(logits=self._logits(source), weight=source.weight, feature_maps=self._feature_maps(source))
                for source in self.sources
            ]
            self._record_teachers(teachers)
        if self.method.required_outputs != "logits" and not any(teacher.feature_maps for teacher in teachers):
            raise ConfigError(
                f"--distill {self.method.name} needs a teacher with layers, an ONNX file of a convolutional net, but "
                f"{', '.join(s.name for s in self.sources)} has none; use --distill logits"
            )

        def course(which: Sequence[tuple[TeacherSource, Teacher]]) -> Distillation:
            teaching = TeacherEnsemble(teachers=[teacher for _, teacher in which], temperature=temperature, alpha=alpha)
            about = self._describe([source for source, _ in which], temperature, alpha)
            return Distillation(method=self.method, ensemble=teaching, description=about)

        together = list(zip(self.sources, teachers, strict=True))
        alone = [[(source, replace(teacher, weight=1.0))] for source, teacher in together] if teachers[1:] else []
        apart = {name: course(one) for name, one in zip(unique_teacher_names(self.sources), alone, strict=False)}
        return replace(course(together), by_teacher=apart)

    def _logits(self, source: TeacherSource) -> Floats:
        if source.outputs is not None:
            return to_logits(source.outputs)[:, source.class_columns]
        path = self.folder.path / self._cache_name(source, "logits.npy")
        if source.onnx_teacher is not None and not path.exists():
            found = io.BytesIO()
            np.save(found, to_logits(self._run_teacher(source, source.onnx_teacher))[:, source.class_columns])
            self.folder.write(self._cache_name(source, "logits.npy"), found.getvalue())
        logits: Floats = np.load(path)
        return logits

    def _run_teacher(self, source: TeacherSource, teacher: OnnxTeacher) -> Floats:
        images = self.data.train.images
        parts = []
        with teacher_session(
            teacher, runtime=_load_runtime(), pixel_scaling=source.pixel_scaling, threads=self.threads
        ) as answer:
            for at in range(0, len(images), _CHUNK_IMAGES):
                parts.append(answer(images[at : at + _CHUNK_IMAGES]))
                self.log(f"teacher {source.name}: {min(at + _CHUNK_IMAGES, len(images))} of {len(images)} images")
        return np.concatenate(parts)

    def _feature_maps(self, source: TeacherSource) -> tuple[FeatureMap, ...]:
        if self.method.required_outputs == "logits" or source.onnx_teacher is None:
            return ()
        name = self._cache_name(source, f"{self.method.required_outputs}.npz")
        path = self.folder.path / name
        if not path.exists():
            found = layer_features(
                source.onnx_teacher, self.method.required_outputs, self.data.train.images, runtime=_load_runtime(), pixel_scaling=source.pixel_scaling,
                threads=self.threads,
                on_progress=lambda done: self.log(f"teacher {source.name}, layers: {done} of {len(self.data.train)} images"),
            )  # fmt: skip
            arrays = {f"level{i}": level.values for i, level in enumerate(found)}
            content = io.BytesIO()
            np.savez(content, allow_pickle=False, scales=np.array([level.relative_side for level in found]), **arrays)
            self.folder.write(name, content.getvalue())
        held = np.load(path)
        return tuple(FeatureMap(relative_side=float(s), values=held[f"level{i}"]) for i, s in enumerate(held["scales"]))

    def _cache_name(self, source: TeacherSource, suffix: str) -> str:
        return f"{TEACHER_FOLDER}/{source.sha256[:12]}-{self.data.digest[:12]}-{suffix}"

    def _check_same_teachers(self) -> None:
        """Make sure that all nets of a run have the same teachers."""
        file = self.folder.path / TEACHER_FOLDER / "teachers.json"
        if not file.exists():
            return
        before = {entry["sha256"] for entry in json.loads(file.read_text())}
        changed = [source.name for source in self.sources if source.sha256 not in before]
        if changed:
            raise ConfigError(
                f"{self.folder.path} was started with another {', '.join(changed)}: the teacher's file has changed "
                "since; give this run a --name of its own"
            )

    def _record_teachers(self, teachers: Sequence[Teacher]) -> None:
        """Write down who teaches and what is kept, and say what a reader has to know, once."""
        if (self.folder.path / TEACHER_FOLDER / "teachers.json").exists():
            return
        labels, facts = self.data.train.labels, []
        for source, teacher in zip(self.sources, teachers, strict=True):
            kept = {
                path.name: path.stat().st_size
                for path in sorted((self.folder.path / TEACHER_FOLDER).glob(f"{source.sha256[:12]}-*.np*"))
            }
            right = float((teacher.logits.argmax(1) == labels).mean())
            facts.append({
                "name": source.name, "weight": source.weight, "sha256": source.sha256, "data": self.data.digest,
                "pixels": source.pixel_scaling, "train_accuracy": right, "kept_bytes": kept, "notes": source.notes,
            })  # fmt: skip
            for note in source.notes:
                logger.warning("%s", note)
            if right < 2 / len(self.data.classes):
                logger.warning("teacher %s is right on only %.0f %% of the training faces", source.name, 100 * right)
        self.folder.write(f"{TEACHER_FOLDER}/teachers.json", json.dumps(facts, indent=1))

    def _describe(self, sources: Sequence[TeacherSource], temperature: float, alpha: float) -> str:
        shares = len(sources) > 1
        who = [f"{s.name} {s.sha256[:12]}" + (f" x {s.weight:.2g}" if shares else "") for s in sources]
        return f"{self.method.name} from {' + '.join(who)} (T {temperature:g}, alpha {alpha:g})"


def unique_teacher_names(sources: Sequence[TeacherSource]) -> list[str]:
    """A name for each teacher, each once: the file's, with some of its digest where several share it."""
    names = [source.name for source in sources]
    return [f"{s.name} {s.sha256[:6]}" if names.count(s.name) > 1 else s.name for s in sources]


def to_logits(outputs: Floats) -> Floats:
    """Answers [N, K] as logits: themselves, or their logarithms where every row is of probabilities (sums to 1)."""
    is_shares = bool((outputs >= 0).all() and (np.abs(outputs.sum(1) - 1) <= _PROBABILITY_SUM_TOLERANCE).all())
    return np.log(np.maximum(outputs, _MIN_PROBABILITY)).astype(np.float32) if is_shares else outputs.astype(np.float32)


def _load_runtime() -> Runtime:
    runtime: Runtime = registry.load("runtime", TEACHER_RUNTIME)
    return runtime
