"""The rows of `compression.py`: a compression of a trained net, and the figures of the exported file."""

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
"""Compressors in the order in which they are applied."""
CALIBRATION_IMAGES = 512
PARITY_IMAGES = 256
FINE_TUNE_EPOCHS, FINE_TUNE_LR = 0.25, 0.3
"""Fine-tuning: epochs as a share of the net's own, and factor on its learning rate."""
QAT_EPOCHS, QAT_LR = 0.15, 0.05
TEMPERATURE, ALPHA = 4.0, 0.7
MAX_DRIFT = 0.1
"""Drift of the reference network above which a pair of latencies is measured again."""

GeneFunction = Callable[[tuple[str, ...]], dict[str, Value]]


@dataclass(frozen=True, kw_only=True)
class CompressionVariant:
    """One row of the table.

    Attributes:
        description: in words.
        compressor: that the row needs, None for none.
        genes: stages to genes.
        is_fine_tuned: whether the net is trained further after pruning.
        uses_qat: whether quantisation is followed by quantisation-aware training.
        is_distilled: whether fine-tuning distils from a teacher.
    """

    description: str
    compressor: str | None = None
    genes: GeneFunction = lambda stages: {}
    is_fine_tuned: bool = False
    uses_qat: bool = False
    is_distilled: bool = False


def _bit_genes(stages: tuple[str, ...], end_bits: int) -> dict[str, Value]:
    return {f"bits.{STEM}": end_bits, **{f"bits.{stage}": 8 for stage in stages}, f"bits.{HEAD}": end_bits}


def _stage_genes(gene: str, value: float, **extra: Value) -> GeneFunction:
    return lambda stages: {**{f"{gene}.{stage}": value for stage in stages}, **extra}


FP32 = "float"
COMPRESSION_VARIANTS: dict[str, CompressionVariant] = {
    FP32: CompressionVariant(description="FP32"),
    "longer": CompressionVariant(description="FP32, trained as long as the pruned ones", is_fine_tuned=True),
    "ptq": CompressionVariant(
        description="INT8 after training", compressor="quantize", genes=lambda s: _bit_genes(s, 8)
    ),
    "qat": CompressionVariant(
        description="INT8, quantisation-aware training",
        compressor="quantize",
        genes=lambda s: _bit_genes(s, 8),
        uses_qat=True,
    ),
    "mixed": CompressionVariant(
        description="INT8 after training, stem and head FP32", compressor="quantize", genes=lambda s: _bit_genes(s, 32)
    ),
    "structured25": CompressionVariant(
        description="channels 25 %",
        compressor="prune_structured",
        genes=_stage_genes("sparsity", 0.25),
        is_fine_tuned=True,
    ),
    "structured50": CompressionVariant(
        description="channels 50 %",
        compressor="prune_structured",
        genes=_stage_genes("sparsity", 0.5),
        is_fine_tuned=True,
    ),
    "structured75": CompressionVariant(
        description="channels 75 %",
        compressor="prune_structured",
        genes=_stage_genes("sparsity", 0.75),
        is_fine_tuned=True,
    ),
    "unstructured90": CompressionVariant(
        description="weights 90 %, unstructured",
        compressor="prune_unstructured",
        genes=_stage_genes("zeros", 0.9, zeros_scope="global"),
        is_fine_tuned=True,
    ),
    "two_of_four": CompressionVariant(
        description="weights 2:4",
        compressor="prune_unstructured",
        genes=_stage_genes("zeros", 0.5, zeros_pattern="2:4"),
        is_fine_tuned=True,
    ),
    "low_rank": CompressionVariant(
        description="rank 50 %",
        compressor="low_rank",
        genes=_stage_genes("rank", 0.5, decomposition="tucker"),
        is_fine_tuned=True,
    ),
    "distilled": CompressionVariant(
        description="FP32, trained further with a teacher", is_fine_tuned=True, is_distilled=True
    ),
}


class CompressionBenchmark:
    """Computes the rows of one net on one target.

    Args:
        trained: the net with its weights.
        profile: target; its runtime must run on this machine.
        runtime: of the target.
        cache_dir: folder of ONNX files and finished rows.
        teacher: of the distilled rows; None where there is none.
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
        """The figures of a row, from the cache if it is there; `reason` replaces them if there are none."""
        variant = COMPRESSION_VARIANTS[name]
        reason = self._missing_reason(variant)
        if reason is not None:
            return {"net": self.trained.name, "row": name, "what": variant.description, "reason": reason}
        path = self._cache / f"{self.trained.name}-{name}-{self._row_digest(name)}.json"
        if not path.exists():
            write_atomic(path, json.dumps(self._compute_row(name, path.with_suffix(".onnx"))))
        row: dict[str, Any] = json.loads(path.read_text())
        return row

    def retime(self, name: str) -> dict[str, Any]:
        """The row with its latencies measured again; the cached row is updated."""
        row = self.row(name)
        if "accuracy" in row:
            stem = self._cache / f"{self.trained.name}-{name}-{self._row_digest(name)}"
            path = stem.with_name(f"{stem.name}.onnx")
            fp32_path = path if name == FP32 else self._fp32_file
            row |= speedup(path, fp32_path, self.runtime, self.profile, self.data.input_shape)
            write_atomic(stem.with_name(f"{stem.name}.json"), json.dumps(row))
        return row

    def _missing_reason(self, variant: CompressionVariant) -> str | None:
        members = {member.name for member in self.compression.compressors}
        if variant.compressor is not None and variant.compressor not in members:
            return f"the compressor {variant.compressor} is not available"
        genes = {gene.name for gene in self.compression.choices(self.space.stages)}
        absent = sorted(set(variant.genes(self.space.stages)) - genes)
        if absent:
            return f"the target {self.profile.name} has no gene {absent[0]}"
        if variant.is_distilled and self.teacher is None:
            return "this net is the teacher itself"
        return None

    def _row_digest(self, word: str) -> str:
        variant = COMPRESSION_VARIANTS[word]
        teacher_digest = self.teacher.digest if variant.is_distilled and self.teacher is not None else None
        training = (
            [FINE_TUNE_EPOCHS, FINE_TUNE_LR]
            if variant.is_fine_tuned
            else [QAT_EPOCHS, QAT_LR]
            if variant.uses_qat
            else []
        )
        return settings_digest(
            {
                "net": self.trained.digest, "genes": variant.genes(self.space.stages), "learning": training,
                "target": self.profile.name, "teacher": teacher_digest, "calibration": CALIBRATION_IMAGES,
                "teaching": [TEMPERATURE, ALPHA] if variant.is_distilled else [],
            }
        )  # fmt: skip

    def _compute_row(self, word: str, path: Path) -> dict[str, Any]:
        variant = COMPRESSION_VARIANTS[word]
        identification = {"net": self.trained.name, "row": word, "what": variant.description}
        try:
            candidate = self.compression.decode(self.space, variant.genes(self.space.stages))
            net = self._pruned_copy(candidate)
            pruned_accuracy = self._accuracy(net)
            if variant.is_fine_tuned:
                self._fine_tune(net, candidate, variant)
            parity = self._export_and_check(net, candidate, variant, path)
        except CandidateError as error:
            return {**identification, "reason": str(error)}
        return {
            **identification,
            **parity,
            **self._measure_file(path, word),
            "before_recovery": pruned_accuracy,
            "sparsity": candidate.sparsity,
        }

    def _pruned_copy(self, candidate: Candidate) -> nn.Module:
        """A copy of the trained net, pruned and restructured to the candidate's shape."""
        net, context = copy.deepcopy(self.trained.net), self._context(candidate)
        if not self.compression.changes_shape(candidate):
            return net
        architecture = candidate.architecture
        shape, classes = self.data.input_shape, len(self.data.classes)
        slim = self.space.build(architecture, input_shape=shape, classes=classes, widths=candidate.pruned)
        self.compression.prune(net, slim, context)
        return self.compression.restructure(slim, context).eval()

    def _fine_tune(self, net: nn.Module, candidate: Candidate, variant: CompressionVariant) -> None:
        epochs = FINE_TUNE_EPOCHS * self.trained.epochs
        with self.compression.training(net, self._context(candidate)) as before_step:
            distillation = self._distillation() if variant.is_distilled else None
            self.trained.train(
                net, epochs=epochs, lr_scale=FINE_TUNE_LR, seed=1, distillation=distillation, before_step=before_step
            )

    def _export_and_check(
        self, net: nn.Module, candidate: Candidate, variant: CompressionVariant, path: Path
    ) -> dict[str, Any]:
        def fit(module: nn.Module) -> None:
            epochs = QAT_EPOCHS * self.trained.epochs
            self.trained.train(module, epochs=epochs, lr_scale=QAT_LR, seed=2, force_fp32=True)

        graph = self.compression.compress_graph(net, self._context(candidate), fit=fit if variant.uses_qat else None)
        export_onnx(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata={})
        session = self.runtime.load(path)
        try:
            faces = self.data.val.images[:PARITY_IMAGES]
            parity = check_parity(graph, session, faces, path=path, max_difference=parity_tolerance(candidate.bits))
        except ParityError as error:
            return {"parity": str(error)}
        finally:
            session.close()
        return {"agreement": parity.agreement, "max_difference": parity.max_difference}

    def _measure_file(self, path: Path, word: str) -> dict[str, Any]:
        """All figures of the file; its latency is measured side by side with the FP32 file's."""
        session = self.runtime.load(path)
        try:
            val_score = score(session.predict, self.data.val, self.data.classes)
        finally:
            session.close()
        costs = compute_costs(path)
        fp32_path = path if word == FP32 else self._fp32_file
        return {
            "accuracy": val_score.accuracy, "low": val_score.low, "high": val_score.high, "recall": val_score.recall,
            "size_bytes": path.stat().st_size, "packed_bytes": packed_bytes(path), "params": costs.params,
            "nonzero_params": costs.nonzero_params, "macs": costs.macs,
            **speedup(path, fp32_path, self.runtime, self.profile, self.data.input_shape),
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
        assert self.teacher is not None  # `_missing_reason` skips distilled rows without a teacher
        logits = teacher_logits(self.teacher, self._cache)
        ensemble = TeacherEnsemble(teachers=[Teacher(logits=logits, weight=1.0)], temperature=TEMPERATURE, alpha=ALPHA)
        return Distillation(method=load("method", "logits"), ensemble=ensemble, description=self.teacher.name)


def teacher_logits(teacher: TrainedNet, cache: Path) -> npt.NDArray[np.float32]:
    """The teacher's logits [N, K] of the training faces, up to a constant in each row; cached.

    They are logarithms of probabilities, and softmax does not depend on the constant.
    """
    path = cache / f"{teacher.name}-{teacher.digest}-answers.npy"
    if not path.exists():
        execution = replace(teacher.execution, precision="fp32")
        probabilities = predict(teacher.net, teacher.data.train.images, execution=execution)
        temporary = path.with_name(f".{os.getpid()}.npy")
        np.save(temporary, np.log(np.maximum(probabilities, 1e-12)))
        temporary.replace(path)
    logits: npt.NDArray[np.float32] = np.load(path)
    return logits


def speedup(
    path: Path, fp32_path: Path, runtime: Runtime, profile: HardwareProfile, input_shape: tuple[int, int, int]
) -> Mapping[str, Any]:
    """How many times as fast a file is as its FP32 baseline, by medians with an interval and by 5th percentiles.

    Both files are timed side by side. Of at most three attempts, the one in which the reference network drifted least
    counts.
    """
    attempts: list[list[Latency]] = []
    while not attempts or (len(attempts) < 3 and abs(attempts[-1][0].drift or 0.0) > MAX_DRIFT):
        attempts.append(
            measure_interleaved([path, fp32_path], runtime, device=profile.title, input_shape=input_shape, runs=400)
        )
    latency, baseline = min(attempts, key=lambda pair: abs(pair[0].drift or 0.0))
    measured = int8_speedup(latency, baseline)
    return {
        "speedup": measured.speedup, "speedup_low": measured.low, "speedup_high": measured.high,
        "speedup_p5": (baseline.p5_ms or 0.0) / (latency.p5_ms or 1.0), "latency_ms": latency.latency_ms,
        "p5_ms": latency.p5_ms, "twin_p5_ms": baseline.p5_ms,
        "measurement": asdict(latency),
    }  # fmt: skip
