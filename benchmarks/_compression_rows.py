"""The rows of `compression.py`: what is done to a trained net, and what is read off the file that comes of it."""

import copy
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from benchmarks._compression_nets import Trained, digest, spread, write
from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import Context
from nas.compression.pipeline import Compression
from nas.distillation.base import Course, Teacher, Teaching
from nas.errors import CandidateError, ParityError
from nas.latency.costs import costs, packed_bytes
from nas.latency.estimate import Measurement
from nas.latency.measured.timing import measure_interleaved
from nas.latency.speedup import gain
from nas.metrics import score
from nas.onnx_export.exporter import export
from nas.onnx_export.parity import check_parity, tolerance
from nas.registry import load, names
from nas.runtimes.base import Runtime
from nas.training.loop import predict
from search_spaces._base import HEAD, STEM, Value

ORDER = ("prune_structured", "low_rank", "prune_unstructured", "quantize")
"""Members in the order in which they work on a net."""
CALIBRATION_FACES = 512
PARITY_FACES = 256
RECOVERY, RECOVERY_LR = 0.25, 0.3
"""Epochs of a recovery as a share of the net's own, and the share of its learning rate."""
QAT_EPOCHS, QAT_LR = 0.15, 0.05
TEMPERATURE, ALPHA = 4.0, 0.7
DRIFT = 0.1
"""Change of the reference network up to which a pair of latencies is not measured again."""

Pick = Callable[[tuple[str, ...]], dict[str, Value]]


@dataclass(frozen=True, kw_only=True)
class Form:
    """One row: the member that it needs, its genes for these stages, and how the net learns on."""

    what: str
    member: str | None = None
    pick: Pick = lambda stages: {}
    recovers: bool = False
    learns_rounding: bool = False
    is_taught: bool = False


def _bits(stages: tuple[str, ...], ends: int) -> dict[str, Value]:
    return {f"bits.{STEM}": ends, **{f"bits.{stage}": 8 for stage in stages}, f"bits.{HEAD}": ends}


def _each(gene: str, value: float, **further: Value) -> Pick:
    return lambda stages: {**{f"{gene}.{stage}": value for stage in stages}, **further}


FLOAT = "float"
FORMS: dict[str, Form] = {
    FLOAT: Form(what="float"),
    "longer": Form(what="float, trained on as long as the pruned ones", recovers=True),
    "ptq": Form(what="INT8 after training", member="quantize", pick=lambda s: _bits(s, 8)),
    "qat": Form(what="INT8 in training", member="quantize", pick=lambda s: _bits(s, 8), learns_rounding=True),
    "mixed": Form(what="INT8 after training, stem and head float", member="quantize", pick=lambda s: _bits(s, 32)),
    "structured25": Form(
        what="channels 25 %", member="prune_structured", pick=_each("sparsity", 0.25), recovers=True
    ),
    "structured50": Form(
        what="channels 50 %", member="prune_structured", pick=_each("sparsity", 0.5), recovers=True
    ),
    "structured75": Form(
        what="channels 75 %", member="prune_structured", pick=_each("sparsity", 0.75), recovers=True
    ),
    "unstructured90": Form(
        what="weights 90 %, unstructured", member="prune_unstructured",
        pick=_each("zeros", 0.9, zeros_scope="global"), recovers=True,
    ),
    "two_of_four": Form(
        what="weights 2:4", member="prune_unstructured", pick=_each("zeros", 0.5, zeros_pattern="2:4"), recovers=True
    ),
    "low_rank": Form(
        what="rank 50 %", member="low_rank", pick=_each("rank", 0.5, decomposition="tucker"), recovers=True
    ),
    "taught": Form(what="float, trained on with a teacher", recovers=True, is_taught=True),
}  # fmt: skip


class Bench:
    """Makes the rows of one net on one target.

    Args:
        trained: the net with its weights.
        profile: target; its runtime must be on this machine.
        runtime: runs files here.
        cache: folder for files and finished rows.
        teacher: of the rows that are taught; None where there is none.
    """

    def __init__(
        self, trained: Trained, profile: HardwareProfile, runtime: Runtime, *, cache: Path, teacher: Trained | None
    ) -> None:
        self.trained, self.profile, self.runtime, self.data = trained, profile, runtime, trained.data
        self.teacher, self._cache = teacher, cache
        self.space = trained.space(channel_multiple=profile.channel_multiple)
        members = [load("compressor", word) for word in ORDER if word in names("compressor")]
        self.compression = Compression(members=members, profile=profile)

    def row(self, word: str) -> dict[str, Any]:
        """The figures of a row, or `reason` why there are none; kept ones if it was made before."""
        form = FORMS[word]
        reason = self._missing(form)
        if reason is not None:
            return {"net": self.trained.word, "row": word, "what": form.what, "reason": reason}
        path = self._cache / f"{self.trained.word}-{word}-{self._digest(word)}.json"
        if not path.exists():
            write(path, json.dumps(self._made(word, path.with_suffix(".onnx"))))
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def timed_again(self, word: str) -> dict[str, Any]:
        """The row with latencies of now, kept in place of those it had."""
        found = self.row(word)
        if "accuracy" in found:
            stem = self._cache / f"{self.trained.word}-{word}-{self._digest(word)}"
            path = stem.with_name(f"{stem.name}.onnx")
            twin = path if word == FLOAT else self._float_file
            found |= speedup(path, twin, self.runtime, self.profile, self.data.input_shape)
            write(stem.with_name(f"{stem.name}.json"), json.dumps(found))
        return found

    def _missing(self, form: Form) -> str | None:
        members = {member.name for member in self.compression.members}
        if form.member is not None and form.member not in members:
            return f"{form.member} is not there"
        genes = {gene.name for gene in self.compression.choices(self.space.stages)}
        absent = sorted(set(form.pick(self.space.stages)) - genes)
        if absent:
            return f"not on {self.profile.name}: it has no gene {absent[0]}"
        if form.is_taught and self.teacher is None:
            return "it is the teacher itself"
        return None

    def _digest(self, word: str) -> str:
        form = FORMS[word]
        taught_by = self.teacher.digest if form.is_taught and self.teacher is not None else None
        learning = [RECOVERY, RECOVERY_LR] if form.recovers else [QAT_EPOCHS, QAT_LR] if form.learns_rounding else []
        return digest(
            {
                "net": self.trained.digest, "genes": form.pick(self.space.stages), "learning": learning,
                "target": self.profile.name, "teacher": taught_by, "calibration": CALIBRATION_FACES,
                "teaching": [TEMPERATURE, ALPHA] if form.is_taught else [],
            }
        )  # fmt: skip

    def _made(self, word: str, path: Path) -> dict[str, Any]:
        form = FORMS[word]
        begin = {"net": self.trained.word, "row": word, "what": form.what}
        try:
            candidate = self.compression.decode(self.space, form.pick(self.space.stages))
            net = self._shaped(candidate)
            before = self._accuracy(net)
            if form.recovers:
                self._recover(net, candidate, form)
            note = self._exported(net, candidate, form, path)
        except CandidateError as error:
            return {**begin, "reason": str(error)}
        return {
            **begin,
            **note,
            **self._read_off(path, word),
            "before_recovery": before,
            "sparsity": candidate.sparsity,
        }

    def _shaped(self, candidate: Candidate) -> nn.Module:
        """A copy of the trained net in the candidate's shape."""
        net, context = copy.deepcopy(self.trained.net), self._context(candidate)
        if not self.compression.reshapes(candidate):
            return net
        architecture = candidate.architecture
        shape, classes = self.data.input_shape, len(self.data.classes)
        slim = self.space.build(architecture, input_shape=shape, classes=classes, widths=candidate.pruned)
        self.compression.prune(net, slim, context)
        return self.compression.shape(slim, context).eval()

    def _recover(self, net: nn.Module, candidate: Candidate, form: Form) -> None:
        epochs = RECOVERY * self.trained.epochs
        with self.compression.training(net, self._context(candidate)) as before_step:
            course = self._course() if form.is_taught else None
            self.trained.fit(net, epochs=epochs, lr_scale=RECOVERY_LR, seed=1, course=course, before_step=before_step)

    def _exported(self, net: nn.Module, candidate: Candidate, form: Form, path: Path) -> dict[str, Any]:
        def fit(module: nn.Module) -> None:
            epochs = QAT_EPOCHS * self.trained.epochs
            self.trained.fit(module, epochs=epochs, lr_scale=QAT_LR, seed=2, precise=True)

        graph = self.compression.graph(net, self._context(candidate), fit=fit if form.learns_rounding else None)
        export(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata={})
        session = self.runtime.load(path)
        try:
            faces = self.data.val.images[:PARITY_FACES]
            agreed = check_parity(graph, session, faces, path=path, max_difference=tolerance(candidate.bits))
        except ParityError as error:
            return {"parity": str(error)}
        finally:
            session.close()
        return {"agreement": agreed.agreement, "max_difference": agreed.max_difference}

    def _read_off(self, path: Path, word: str) -> dict[str, Any]:
        """Everything that the file says of itself; its latency beside that of the float file."""
        session = self.runtime.load(path)
        try:
            scored = score(session.predict, self.data.val, self.data.classes)
        finally:
            session.close()
        counted = costs(path)
        twin = path if word == FLOAT else self._float_file
        return {
            "accuracy": scored.accuracy, "low": scored.low, "high": scored.high, "recall": scored.recall,
            "size_bytes": path.stat().st_size, "packed_bytes": packed_bytes(path), "params": counted.params,
            "nonzero_params": counted.nonzero_params, "macs": counted.macs,
            **speedup(path, twin, self.runtime, self.profile, self.data.input_shape),
        }  # fmt: skip

    @cached_property
    def _float_file(self) -> Path:
        self.row(FLOAT)
        return self._cache / f"{self.trained.word}-{FLOAT}-{self._digest(FLOAT)}.onnx"

    def _context(self, candidate: Candidate) -> Context:
        rows = spread(self.data, CALIBRATION_FACES)
        return Context(
            candidate=candidate, profile=self.profile, input_shape=self.data.input_shape,
            images=self.data.train.images[rows], labels=np.asarray(self.data.train.labels[rows], dtype=np.int64),
        )  # fmt: skip

    def _accuracy(self, net: nn.Module) -> float:
        execution = replace(self.trained.execution, precision="fp32")
        return float((predict(net, self.data.val.images, execution=execution).argmax(1) == self.data.val.labels).mean())

    def _course(self) -> Course:
        assert self.teacher is not None  # rows without one are skipped
        answers = logits_of(self.teacher, self._cache)
        teaching = Teaching(teachers=[Teacher(logits=answers, weight=1.0)], temperature=TEMPERATURE, alpha=ALPHA)
        return Course(lesson=load("lesson", "logits"), teaching=teaching, about=self.teacher.word)


def logits_of(teacher: Trained, cache: Path) -> npt.NDArray[np.float32]:
    """The teacher's logits [N, K] for the training faces, up to a constant in each row; computed once and kept."""
    path = cache / f"{teacher.word}-{teacher.digest}-answers.npy"
    if not path.exists():
        execution = replace(teacher.execution, precision="fp32")
        answers = predict(teacher.net, teacher.data.train.images, execution=execution)
        beside = path.with_name(f".{os.getpid()}.npy")
        np.save(beside, np.log(np.maximum(answers, 1e-12)))
        beside.replace(path)
    found: npt.NDArray[np.float32] = np.load(path)
    return found


def speedup(
    path: Path, twin: Path, runtime: Runtime, profile: HardwareProfile, input_shape: tuple[int, int, int]
) -> Mapping[str, Any]:
    """How many times as fast as another a file is: by medians with their interval, and by 5th percentiles.

    Both are timed side by side; of three attempts the one in which the reference network drifted least counts.
    """
    attempts: list[list[Measurement]] = []
    while not attempts or (len(attempts) < 3 and abs(attempts[-1][0].drift or 0.0) > DRIFT):
        attempts.append(
            measure_interleaved([path, twin], runtime, device=profile.title, input_shape=input_shape, runs=400)
        )
    own, other = min(attempts, key=lambda pair: abs(pair[0].drift or 0.0))
    found = gain(own, other)
    return {
        "speedup": found.speedup, "speedup_low": found.low, "speedup_high": found.high,
        "speedup_p5": (other.p5_ms or 0.0) / (own.p5_ms or 1.0), "latency_ms": own.latency_ms,
        "p5_ms": own.p5_ms, "twin_p5_ms": other.p5_ms,
        "measurement": asdict(own),
    }  # fmt: skip
