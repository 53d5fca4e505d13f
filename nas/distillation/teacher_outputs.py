"""Teacher outputs: computed once on the training images, stored in the run folder, and assembled into a distillation.

teacher/teachers.json             the teachers, with digests, names and sizes of the files below
teacher/SHA-DATA-logits.npy       [N, K] float32, for the unchanged training images in order
teacher/SHA-DATA-BANK-view7.npy   [N, K] float16, for view 7 of each, see `nas.distillation.views`
teacher/views.json                number of the views, decided once by the time that teachers take
teacher/SHA-DATA-attention.npz    attention maps of layers, pooled to at most 8 x 8, float16
teacher/SHA-DATA-features.npz     features of one layer, float16
"""

import hashlib
import io
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas import registry
from nas.data.base import FaceData, Images
from nas.distillation.base import Distillation, DistillationMethod, FeatureMap, Floats, Teacher, TeacherEnsemble
from nas.distillation.onnx_teacher import OnnxTeacher, teacher_session
from nas.distillation.teacher_features import layer_features
from nas.distillation.teachers import TEACHER_RUNTIME, TeacherSource
from nas.distillation.views import ViewBank
from nas.errors import ConfigError, StepPausedError
from nas.results.run_folder import RunFolder
from nas.runtimes.base import Runtime

logger = logging.getLogger(__name__)

TEACHER_FOLDER = "teacher"
VIEWS_FILE = f"{TEACHER_FOLDER}/views.json"
_MIN_PROBABILITY = 1e-8
"""Lower bound of probabilities before their logarithms are taken as logits."""
_PROBABILITY_SUM_TOLERANCE = 0.01
"""Largest distance from 1 at which a row's sum still counts as rounded probabilities."""
_CHUNK_IMAGES = 256
_TIMED_IMAGES = 512
"""Training images on which teachers are timed."""


@dataclass(frozen=True, kw_only=True)
class TeacherOutputs:
    """Outputs of the teachers of a run: computed when first needed, then read from the run folder.

    Attributes:
        sources: the teachers.
        method: the distillation method; it decides which outputs are needed.
        data: the data set, whose training images the outputs are for.
        folder: the run folder.
        n_views: views of each training image that teachers answer and students see; 0 for unchanged images only.
        max_view_s: seconds that answering the views may take, which limits their number; None for no limit.
        threads: of the runtime.
        log: called with progress lines.
    """

    sources: Sequence[TeacherSource]
    method: DistillationMethod
    data: FaceData
    folder: RunFolder
    n_views: int = 0
    max_view_s: float | None = None
    threads: int = 1
    log: Callable[[str], None] = lambda _: None

    def check_same_teachers(self) -> None:
        """Check that all candidates of a run are distilled from the same teachers.

        Raises:
            ConfigError: a teacher has changed since the run was started.
        """
        if not (self.folder.path / TEACHER_FOLDER / "teachers.json").exists():
            return
        changed = [source.name for source in self.sources if source.sha256 not in self.recorded_digests]
        if changed:
            raise ConfigError(
                f"{self.folder.path} was started with another {', '.join(changed)}: the teacher's file has changed "
                "since; give this run a --name of its own"
            )

    @property
    def recorded_digests(self) -> set[str]:
        """SHA-256 of the teachers that the run has had; empty before any."""
        if not (self.folder.path / TEACHER_FOLDER / "teachers.json").exists():
            return set()
        entries = self.folder.read_json(f"{TEACHER_FOLDER}/teachers.json", list[dict[str, Any]])
        return {str(entry.get("sha256")) for entry in entries}

    def adopt_from_other_runs(self) -> int:
        """Copy what other runs beside this one have stored of the same teachers on the same images.

        Returns:
            Files that were copied.
        """
        adopted = 0
        for path in [path for path in self._needed_files() if not path.exists()]:
            found = next(iter(sorted(self.folder.path.parent.glob(f"*/{TEACHER_FOLDER}/{path.name}"))), None)
            if found is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self.folder.write(f"{TEACHER_FOLDER}/{path.name}", found.read_bytes())
                adopted += 1
        return adopted

    @property
    def are_stored(self) -> bool:
        """Whether no teacher has to run any more."""
        is_decided = not self.n_views or (self.folder.path / VIEWS_FILE).exists()
        return is_decided and all(path.exists() for path in self._needed_files())

    @property
    def _n_decided_views(self) -> int:
        """Views that students see: all that were asked for, or as many as the time allows."""
        file = self.folder.path / VIEWS_FILE
        return int(self.folder.read_json(VIEWS_FILE)["views"]) if self.n_views and file.exists() else self.n_views

    def _decide_views(self) -> None:
        """Decide on the number of views by timing the teachers, and write it down: a resumed run has the same bank."""
        if not self.n_views or (self.folder.path / VIEWS_FILE).exists():
            return
        n_views = self.n_views
        if self.max_view_s is not None:
            images = self.data.train.images[:_TIMED_IMAGES]
            begin = time.perf_counter()
            for source in self.sources:
                if source.onnx_teacher is not None:
                    self._run_teacher(source, source.onnx_teacher, images, f"teacher {source.name}, timed")
            view_s = (time.perf_counter() - begin) * len(self.data.train) / len(images)
            n_views = max(1, self._n_stored_views(), min(n_views, int(self.max_view_s / max(view_s, 1e-9))))
        if n_views < self.n_views:
            logger.warning(
                "teachers answer %d of %d views of each training image, which takes %.0f s; more time allows more",
                n_views, self.n_views, n_views * view_s,
            )  # fmt: skip
        self.folder.write(VIEWS_FILE, json.dumps({"views": n_views}))

    def _n_stored_views(self) -> int:
        """Views that all teachers have answered already, in other runs for example."""
        sources = [source for source in self.sources if source.onnx_teacher]
        stored = [all(self._path(s, self._view_suffix(v)).exists() for s in sources) for v in range(self.n_views)]
        return next((view for view, is_stored in enumerate(stored) if not is_stored), self.n_views)

    def _needed_files(self) -> list[Path]:
        suffixes = ["logits.npy"] + ([] if self.method.required_outputs == "logits" else [self._features_suffix])
        suffixes += [self._view_suffix(view) for view in range(self._n_decided_views)]
        return [self._path(s, suffix) for s in self.sources if s.onnx_teacher for suffix in suffixes]

    def compute(self, should_pause: Callable[[], bool]) -> None:
        """Run the teachers whose outputs are not stored yet.

        Args:
            should_pause: called before each view; True ends the work there, with what is stored so far.

        Raises:
            StepPausedError: `should_pause` asked for it; the same call goes on.
        """
        (self.folder.path / TEACHER_FOLDER).mkdir(parents=True, exist_ok=True)
        for source in self.sources:
            if source.onnx_teacher is not None:
                self._logits(source)
                self._feature_maps(source)
        self._decide_views()
        missing = [
            (source, view)
            for view in range(self._n_decided_views)
            for source in self.sources
            if source.onnx_teacher and not self._path(source, self._view_suffix(view)).exists()
        ]
        for place, (source, view) in enumerate(missing):
            if place and should_pause():
                raise StepPausedError(f"the teachers have answered {view} of {self._n_decided_views} views")
            self._view_logits(source, view)

    def build_distillation(self, *, temperature: float, alpha: float) -> Distillation:
        """The distillation from these teachers, together and each alone.

        Args:
            temperature: divisor of the logits; above 0.
            alpha: share of the teachers in the loss, 0..1.

        Raises:
            ConfigError: a teacher has changed since the run was started, or no teacher has the layers that the method
                needs.
        """
        (self.folder.path / TEACHER_FOLDER).mkdir(parents=True, exist_ok=True)
        self.check_same_teachers()
        teachers = [
            Teacher(
                logits=self._logits(source),
                weight=source.weight,
                feature_maps=self._feature_maps(source),
                view_logits=self._all_view_logits(source),
                is_calibrated=source.is_calibrated,
            )
            for source in self.sources
        ]
        self._record_teachers(teachers)
        if self.method.required_outputs != "logits" and not any(teacher.feature_maps for teacher in teachers):
            raise ConfigError(
                f"--distill {self.method.name} needs a teacher with layers, an ONNX file of a convolutional net, but "
                f"{', '.join(s.name for s in self.sources)} has none; use --distill logits"
            )

        def distillation(members: Sequence[tuple[TeacherSource, Teacher]]) -> Distillation:
            ensemble = TeacherEnsemble(
                teachers=[teacher for _, teacher in members], temperature=temperature, alpha=alpha, bank=self._bank
            )
            description = self._describe([source for source, _ in members], temperature, alpha)
            return Distillation(method=self.method, ensemble=ensemble, description=description)

        members = list(zip(self.sources, teachers, strict=True))
        singles = [[(source, replace(teacher, weight=1.0))] for source, teacher in members] if teachers[1:] else []
        names = unique_teacher_names(self.sources)
        by_teacher = {name: distillation(single) for name, single in zip(names, singles, strict=False)}
        return replace(distillation(members), by_teacher=by_teacher)

    def _logits(self, source: TeacherSource) -> Floats:
        if source.outputs is not None:
            return to_logits(source.outputs)[:, source.class_columns]
        path = self.folder.path / self._cache_name(source, "logits.npy")
        if source.onnx_teacher is not None and not path.exists():
            content = io.BytesIO()
            images, name = self.data.train.images, f"teacher {source.name}"
            outputs = self._run_teacher(source, source.onnx_teacher, images, name)
            np.save(content, to_logits(outputs)[:, source.class_columns])
            self.folder.write(self._cache_name(source, "logits.npy"), content.getvalue())
        logits: Floats = np.load(path)
        return logits

    def _all_view_logits(self, source: TeacherSource) -> npt.NDArray[np.float16] | None:
        if source.onnx_teacher is None or not self.n_views:
            return None
        return np.stack([self._view_logits(source, view) for view in range(self._n_decided_views)])

    def _view_logits(self, source: TeacherSource, view: int) -> npt.NDArray[np.float16]:
        """[N, K] for one view of each image; the largest of a row is 0, where float16 is finest."""
        name = self._cache_name(source, self._view_suffix(view))
        if source.onnx_teacher is not None and not (self.folder.path / name).exists():
            label = f"teacher {source.name}, view {view + 1} of {self._n_decided_views}"
            outputs = self._run_teacher(source, source.onnx_teacher, self.data.train.images, label, view=view)
            logits = to_logits(outputs)[:, source.class_columns]
            content = io.BytesIO()
            np.save(content, (logits - logits.max(1, keepdims=True)).astype(np.float16))
            self.folder.write(name, content.getvalue())
        stored: npt.NDArray[np.float16] = np.load(self.folder.path / name)
        return stored

    @property
    def _bank(self) -> ViewBank | None:
        """None too where no teacher answers views: students then see fresh changes in each epoch, not the same few."""
        n_views = self._n_decided_views if any(source.onnx_teacher for source in self.sources) else 0
        return ViewBank(n_images=len(self.data.train), n_views=n_views) if n_views else None

    def _view_suffix(self, view: int) -> str:
        settings = repr(ViewBank(n_images=len(self.data.train), n_views=1))
        return f"{hashlib.sha256(settings.encode()).hexdigest()[:8]}-view{view}.npy"

    def _run_teacher(
        self, source: TeacherSource, teacher: OnnxTeacher, images: Images, label: str, *, view: int | None = None
    ) -> Floats:
        parts = []
        bank = None if view is None else self._bank
        with teacher_session(
            teacher, runtime=_load_runtime(), pixel_scaling=source.pixel_scaling, threads=self.threads
        ) as run:
            for start in range(0, len(images), _CHUNK_IMAGES):
                rows = slice(start, min(start + _CHUNK_IMAGES, len(images)))
                parts.append(run(images[rows] if bank is None or view is None else bank.show_rows(images, rows, view)))
                self.log(f"{label}: {rows.stop} of {len(images)} images")
        return np.concatenate(parts)

    def _feature_maps(self, source: TeacherSource) -> tuple[FeatureMap, ...]:
        if self.method.required_outputs == "logits" or source.onnx_teacher is None:
            return ()
        name = self._cache_name(source, self._features_suffix)
        path = self.folder.path / name
        if not path.exists():
            images = self.data.train.images
            maps = layer_features(
                source.onnx_teacher, self.method.required_outputs, images, runtime=_load_runtime(),
                pixel_scaling=source.pixel_scaling, threads=self.threads,
                on_progress=lambda done: self.log(f"teacher {source.name}, layers: {done} of {len(images)} images"),
            )  # fmt: skip
            arrays = {f"level{i}": feature_map.values for i, feature_map in enumerate(maps)}
            content = io.BytesIO()
            sides = np.array([feature_map.relative_side for feature_map in maps])
            np.savez(content, allow_pickle=False, scales=sides, **arrays)
            self.folder.write(name, content.getvalue())
        stored = np.load(path)
        return tuple(
            FeatureMap(relative_side=float(side), values=stored[f"level{i}"]) for i, side in enumerate(stored["scales"])
        )

    @property
    def _features_suffix(self) -> str:
        return f"{self.method.required_outputs}.npz"

    def _path(self, source: TeacherSource, suffix: str) -> Path:
        return self.folder.path / self._cache_name(source, suffix)

    def _cache_name(self, source: TeacherSource, suffix: str) -> str:
        return f"{TEACHER_FOLDER}/{source.sha256[:12]}-{self.data.digest[:12]}-{suffix}"

    def _record_teachers(self, teachers: Sequence[Teacher]) -> None:
        """Record the teachers and their files, and log their notes, on the run's first call only."""
        if (self.folder.path / TEACHER_FOLDER / "teachers.json").exists():
            return
        labels, facts = self.data.train.labels, []
        for source, teacher in zip(self.sources, teachers, strict=True):
            file_bytes = {
                path.name: path.stat().st_size
                for path in sorted((self.folder.path / TEACHER_FOLDER).glob(f"{source.sha256[:12]}-*.np*"))
            }
            accuracy = float((teacher.logits.argmax(1) == labels).mean())
            facts.append({
                "name": source.name, "weight": source.weight, "sha256": source.sha256, "data": self.data.digest,
                "pixels": source.pixel_scaling, "train_accuracy": accuracy, "kept_bytes": file_bytes,
                "notes": source.notes,
            })  # fmt: skip
            for note in source.notes:
                logger.warning("%s", note)
            if accuracy < 2 / len(self.data.classes):  # less than twice as good as guessing
                logger.warning(
                    "teacher %s has an accuracy of only %.0f %% on the training images", source.name, 100 * accuracy
                )
        self.folder.write(f"{TEACHER_FOLDER}/teachers.json", json.dumps(facts, indent=1))

    def _describe(self, sources: Sequence[TeacherSource], temperature: float, alpha: float) -> str:
        show_weights = len(sources) > 1
        terms = [f"{s.name} {s.sha256[:12]}" + (f" x {s.weight:.2g}" if show_weights else "") for s in sources]
        return f"{self.method.name} from {' + '.join(terms)} (T {temperature:g}, alpha {alpha:g})"


def unique_teacher_names(sources: Sequence[TeacherSource]) -> list[str]:
    """A unique name for each teacher: the file's name, followed by part of its digest where several share it."""
    names = [source.name for source in sources]
    return [f"{s.name} {s.sha256[:6]}" if names.count(s.name) > 1 else s.name for s in sources]


def to_logits(outputs: Floats) -> Floats:
    """Outputs [N, K] as logits: their logarithms if all rows are probabilities (>= 0, sums of 1), else unchanged."""
    row_sums_are_1 = (np.abs(outputs.sum(1) - 1) <= _PROBABILITY_SUM_TOLERANCE).all()
    if not ((outputs >= 0).all() and row_sums_are_1):
        return outputs.astype(np.float32)
    return np.log(np.maximum(outputs, _MIN_PROBABILITY)).astype(np.float32)


def _load_runtime() -> Runtime:
    runtime: Runtime = registry.load("runtime", TEACHER_RUNTIME)
    return runtime
