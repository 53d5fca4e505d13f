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

from benchmarks._compression_nets import TrainedNet, evenly_spaced_rows, settings_digest, write_atomic
from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.compression.pipeline import CompressionPipeline
from nas.distillation.base import Distillation, Teacher, TeacherEnsemble
from nas.errors import CandidateError, ParityError
from nas.latency.costs import compute_costs, packed_bytes
from nas.latency.int8_speedup import int8_speedup
from nas.latency.latency import Latency
from nas.latency.measured.timing import measure_interleaved
from nas.metrics import score
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.parity import check_parity, parity_tolerance
from nas.registry import load, names
from nas.runtimes.base import Runtime
from nas.training.loop import predict
from search_spaces._base import HEAD, STEM, Value

COMPRESSOR_ORDER = ("prune_structured", "low_rank", "prune_unstructured", "quantize")
"""Members in the order in which they work on a net."""
CALIBRATION_IMAGES = 512
PARITY_IMAGES = 256
FINE_TUNE_EPOCHS, FINE_TUNE_LR = 0.25, 0.3
"""Epochs of a recovery as a share of the net's own, and the share of its learning rate."""
QAT_EPOCHS, QAT_LR = 0.15, 0.05
TEMPERATURE, ALPHA = 4.0, 0.7
MAX_DRIFT = 0.1
"""Change of the reference network up to which a pair of latencies is not measured again."""

GeneFunction = Callable[[tuple[str, ...]], dict[str, Value]]


@dataclass(frozen=True, kw_only=True)
class CompressionVariant:
    """One row: the member that it needs, its genes for these stages, and how the net learns on."""

    description: str
    compressor: str | None = None
    genes: GeneFunction = lambda stages: {}
    is_fine_tuned: bool = False
    uses_qat: bool = False
    is_distilled: bool = False


def _bit_genes(stages: tuple[str, ...], ends: int) -> dict[str, Value]:
    return {f"bits.{STEM}": ends, **{f"bits.{stage}": 8 for stage in stages}, f"bits.{HEAD}": ends}


def _stage_genes(gene: str, value: float, **further: Value) -> GeneFunction:
    return lambda stages: {**{f"{gene}.{stage}": value for stage in stages}, **further}


FP32 = "float"
COMPRESSION_VARIANTS: dict[str, CompressionVariant] = {
    FP32: CompressionVariant(description="float"),
    "longer": CompressionVariant(description="float, trained on as long as the pruned ones", is_fine_tuned=True),
    "ptq": CompressionVariant(description="INT8 after training", compressor="quantize", genes=lambda s: _bit_genes(s, 8)),
    "qat": CompressionVariant(description="INT8 in training", compressor="quantize", genes=lambda s: _bit_genes(s, 8), uses_qat=True),
    "mixed": CompressionVariant(description="INT8 after training, stem and head float", compressor="quantize", genes=lambda s: _bit_genes(s, 32)),
    "structured25": CompressionVariant(
        description="channels 25 %", compressor="prune_structured", genes=_stage_genes("sparsity", 0.25), is_fine_tuned=True
    ),
    "structured50": CompressionVariant(
        description="channels 50 %", compressor="prune_structured", genes=_stage_genes("sparsity", 0.5), is_fine_tuned=True
    ),
    "structured75": CompressionVariant(
        description="channels 75 %", compressor="prune_structured", genes=_stage_genes("sparsity", 0.75), is_fine_tuned=True
    ),
    "unstructured90": CompressionVariant(
        description="weights 90 %, unstructured", compressor="prune_unstructured",
        genes=_stage_genes("zeros", 0.9, zeros_scope="global"), is_fine_tuned=True,
    ),
    "two_of_four": CompressionVariant(
        description="weights 2:4", compressor="prune_unstructured", genes=_stage_genes("zeros", 0.5, zeros_pattern="2:4"), is_fine_tuned=True
    ),
    "low_rank": CompressionVariant(
        description="rank 50 %", compressor="low_rank", genes=_stage_genes("rank", 0.5, decomposition="tucker"), is_fine_tuned=True
    ),
    "taught": CompressionVariant(description="float, trained on with a teacher", is_fine_tuned=True, is_distilled=True),
}  # fmt: skip


class CompressionBenchmark:
    """Makes the rows of one net on one target.

    Args:
        trained: the net with its weights.
        profile: target; its runtime must be on this machine.
        runtime: runs files here.
        cache: folder for files and finished rows.
        teacher: of the rows that are taught; None where there is none.
    """

    def __init__(
        self,
        trained: TrainedNet,
        profile: HardwareProfile,
        runtime: Runtime,
        *,
        cache_dir: Path,
        teacher: TrainedNet | None,
    ) -> None:
        self.trained, self.profile, self.runtime, self.data = trained, profile, runtime, trained.data
        self.teacher, self._cache = teacher, cache_dir
        self.space = trained.as_space(channel_multiple=profile.channel_multiple)
        members = [load("compressor", word) for word in COMPRESSOR_ORDER if word in names("compressor")]
        self.compression = CompressionPipeline(compressors=members, profile=profile)

    def row(self, name: str) -> dict[str, Any]:
        """The figures of a row, or `reason` why there are none; kept ones if it was made before."""
        form = COMPRESSION_VARIANTS[name]
        reason = self._missing_reason(form)
        if reason is not None:
            return {"net": self.trained.name, "row": name, "what": form.description, "reason": reason}
        path = self._cache / f"{self.trained.name}-{name}-{self._row_digest(name)}.json"
        if not path.exists():
            write_atomic(path, json.dumps(self._compute_row(name, path.with_suffix(".onnx"))))
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def retime(self, name: str) -> dict[str, Any]:
        """The row with latencies of now, kept in place of those it had."""
        found = self.row(name)
        if "accuracy" in found:
            stem = self._cache / f"{self.trained.name}-{name}-{self._row_digest(name)}"
            path = stem.with_name(f"{stem.name}.onnx")
            twin = path if name == FP32 else self._fp32_file
            found |= speedup(path, twin, self.runtime, self.profile, self.data.input_shape)
            write_atomic(stem.with_name(f"{stem.name}.json"), json.dumps(found))
        return found

    def _missing_reason(self, form: CompressionVariant) -> str | None:
        members = {member.name for member in self.compression.compressors}
        if form.compressor is not None and form.compressor not in members:
            return f"{form.compressor} is not there"
        genes = {gene.name for gene in self.compression.choices(self.space.stages)}
        absent = sorted(set(form.genes(self.space.stages)) - genes)
        if absent:
            return f"not on {self.profile.name}: it has no gene {absent[0]}"
        if form.is_distilled and self.teacher is None:
            return "it is the teacher itself"
        return None

    def _row_digest(self, word: str) -> str:
        form = COMPRESSION_VARIANTS[word]
        taught_by = self.teacher.digest if form.is_distilled and self.teacher is not None else None
        learning = (
            [FINE_TUNE_EPOCHS, FINE_TUNE_LR] if form.is_fine_tuned else [QAT_EPOCHS, QAT_LR] if form.uses_qat else []
        )
        return settings_digest(
            {
                "net": self.trained.digest, "genes": form.genes(self.space.stages), "learning": learning,
                "target": self.profile.name, "teacher": taught_by, "calibration": CALIBRATION_IMAGES,
                "teaching": [TEMPERATURE, ALPHA] if form.is_distilled else [],
            }
        )  # fmt: skip

    def _compute_row(self, word: str, path: Path) -> dict[str, Any]:
        form = COMPRESSION_VARIANTS[word]
        begin = {"net": self.trained.name, "row": word, "what": form.description}
        try:
            candidate = self.compression.decode(self.space, form.genes(self.space.stages))
            net = self._pruned_copy(candidate)
            before = self._accuracy(net)
            if form.is_fine_tuned:
                self._fine_tune(net, candidate, form)
            note = self._export_and_check(net, candidate, form, path)
        except CandidateError as error:
            return {**begin, "reason": str(error)}
        return {
            **begin,
            **note,
            **self._measure_file(path, word),
            "before_recovery": before,
            "sparsity": candidate.sparsity,
        }

    def _pruned_copy(self, candidate: Candidate) -> nn.Module:
        """A copy of the trained net in the candidate's shape."""
        net, context = copy.deepcopy(self.trained.net), self._context(candidate)
        if not self.compression.changes_shape(candidate):
            return net
        architecture = candidate.architecture
        shape, classes = self.data.input_shape, len(self.data.classes)
        slim = self.space.build(architecture, input_shape=shape, classes=classes, widths=candidate.pruned)
        self.compression.prune(net, slim, context)
        return self.compression.restructure(slim, context).eval()

    def _fine_tune(self, net: nn.Module, candidate: Candidate, form: CompressionVariant) -> None:
        epochs = FINE_TUNE_EPOCHS * self.trained.epochs
        with self.compression.training(net, self._context(candidate)) as before_step:
            course = self._distillation() if form.is_distilled else None
            self.trained.train(
                net, epochs=epochs, lr_scale=FINE_TUNE_LR, seed=1, distillation=course, before_step=before_step
            )

    def _export_and_check(
        self, net: nn.Module, candidate: Candidate, form: CompressionVariant, path: Path
    ) -> dict[str, Any]:
        def fit(module: nn.Module) -> None:
            epochs = QAT_EPOCHS * self.trained.epochs
            self.trained.train(module, epochs=epochs, lr_scale=QAT_LR, seed=2, force_fp32=True)

        graph = self.compression.compress_graph(net, self._context(candidate), fit=fit if form.uses_qat else None)
        export_onnx(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata={})
        session = self.runtime.load(path)
        try:
            faces = self.data.val.images[:PARITY_IMAGES]
            agreed = check_parity(graph, session, faces, path=path, max_difference=parity_tolerance(candidate.bits))
        except ParityError as error:
            return {"parity": str(error)}
        finally:
            session.close()
        return {"agreement": agreed.agreement, "max_difference": agreed.max_difference}

    def _measure_file(self, path: Path, word: str) -> dict[str, Any]:
        """Everything that the file says of itself; its latency beside that of the float file."""
        session = self.runtime.load(path)
        try:
            scored = score(session.predict, self.data.val, self.data.classes)
        finally:
            session.close()
        counted = compute_costs(path)
        twin = path if word == FP32 else self._fp32_file
        return {
            "accuracy": scored.accuracy, "low": scored.low, "high": scored.high, "recall": scored.recall,
            "size_bytes": path.stat().st_size, "packed_bytes": packed_bytes(path), "params": counted.params,
            "nonzero_params": counted.nonzero_params, "macs": counted.macs,
            **speedup(path, twin, self.runtime, self.profile, self.data.input_shape),
        }  # fmt: skip

    @cached_property
    def _fp32_file(self) -> Path:
        self.row(FP32)
        return self._cache / f"{self.trained.name}-{FP32}-{self._row_digest(FP32)}.onnx"

    def _context(self, candidate: Candidate) -> CompressionContext:
        rows = evenly_spaced_rows(self.data, CALIBRATION_IMAGES)
        return CompressionContext(
            candidate=candidate, profile=self.profile, input_shape=self.data.input_shape,
            images=self.data.train.images[rows], labels=np.asarray(self.data.train.labels[rows], dtype=np.int64),
        )  # fmt: skip

    def _accuracy(self, net: nn.Module) -> float:
        execution = replace(self.trained.execution, precision="fp32")
        return float((predict(net, self.data.val.images, execution=execution).argmax(1) == self.data.val.labels).mean())

    def _distillation(self) -> Distillation:
        assert self.teacher is not None  # rows without one are skipped
        answers = teacher_logits(self.teacher, self._cache)
        teaching = TeacherEnsemble(teachers=[Teacher(logits=answers, weight=1.0)], temperature=TEMPERATURE, alpha=ALPHA)
        return Distillation(method=load("method", "logits"), ensemble=teaching, description=self.teacher.name)


def teacher_logits(teacher: TrainedNet, cache: Path) -> npt.NDArray[np.float32]:
    """The teacher's logits [N, K] for the training faces, up to a constant in each row; computed once and kept."""
    path = cache / f"{teacher.name}-{teacher.digest}-answers.npy"
    if not path.exists():
        execution = replace(teacher.execution, precision="fp32")
        answers = predict(teacher.net, teacher.data.train.images, execution=execution)
        beside = path.with_name(f".{os.getpid()}.npy")
        np.save(beside, np.log(np.maximum(answers, 1e-12)))
        beside.replace(path)
    found: npt.NDArray[np.float32] = np.load(path)
    return found


def speedup(
    path: Path, fp32_path: Path, runtime: Runtime, profile: HardwareProfile, input_shape: tuple[int, int, int]
) -> Mapping[str, Any]:
    """How many times as fast as another a file is: by medians with their interval, and by 5th percentiles.

    Both are timed side by side; of three attempts the one in which the reference network drifted least counts.
    """
    attempts: list[list[Latency]] = []
    while not attempts or (len(attempts) < 3 and abs(attempts[-1][0].drift or 0.0) > MAX_DRIFT):
        attempts.append(
            measure_interleaved([path, fp32_path], runtime, device=profile.title, input_shape=input_shape, runs=400)
        )
    own, other = min(attempts, key=lambda pair: abs(pair[0].drift or 0.0))
    found = int8_speedup(own, other)
    return {
        "speedup": found.speedup, "speedup_low": found.low, "speedup_high": found.high,
        "speedup_p5": (other.p5_ms or 0.0) / (own.p5_ms or 1.0), "latency_ms": own.latency_ms,
        "p5_ms": own.p5_ms, "twin_p5_ms": other.p5_ms,
        "measurement": asdict(own),
    }  # fmt: skip
