"""Evaluator of trained candidates: the file that ships, and a record whose every figure was read off that file."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import fx, nn

from hw_profiles._base import INT8_BITS
from nas.candidate import Candidate
from nas.compression.pipeline import CompressionPipeline
from nas.config import CompressionFields, LimitFields
from nas.data.base import FaceData
from nas.evaluation.constraints import describe_violations, violations
from nas.evaluation.latency_evaluator import LatencyEvaluator
from nas.latency.costs import compute_costs, packed_bytes
from nas.latency.int8_speedup import int8_speedup
from nas.latency.latency import Latency
from nas.metrics import Score, score
from nas.onnx_export.exporter import ExportedFile, export_onnx
from nas.onnx_export.parity import Parity, check_parity, parity_tolerance
from nas.pareto import non_dominated
from nas.results.front import maximize_flags, objective_values
from nas.results.phase_timer import PhaseTimer
from nas.results.record import Record, utc_timestamp
from nas.results.run_folder import RunFolder
from nas.runtimes.base import Runtime, Session
from nas.training.model_builder import CALIBRATION_IMAGES, ModelBuilder
from nas.training.trainer import LogFunction, ShouldStop, Trainer

MAX_QUANTIZATION_LOSS = 0.003
"""Accuracy that quantisation after training may cost, 0..1, before a network is trained on in 8 bits. On FER2013
training on took a sixth of the final epochs of every member, and gained 0.07 points on average (RESULTS)."""
N_PARITY_IMAGES = 256
"""Images of the selection split, at most, on which torch and the runtime must agree."""


@dataclass(frozen=True, kw_only=True)
class ArtifactEvaluator:
    """Compresses, exports, checks, scores and measures trained networks.

    Attributes:
        objectives: of the search.
        limits: constraints of a candidate.
        compression_config: share of the epochs for quantisation-aware training.
        folder: of the run.
        compression: gives the FP32 baseline, and fine-tunes quantised graphs.
        data: selection split, test split and training images for calibration.
        data_digest: part of every file's metadata.
        host_runtime: runs files on this machine.
        builder: compresses the graphs.
        trainer: trains quantised graphs, and scores them in torch.
        latency_evaluator: times the files.
        log: receives one line of text about each step.
    """

    objectives: Sequence[str]
    limits: LimitFields
    compression_config: CompressionFields
    folder: RunFolder
    compression: CompressionPipeline
    data: FaceData
    data_digest: str
    host_runtime: Runtime
    builder: ModelBuilder
    trainer: Trainer
    latency_evaluator: LatencyEvaluator
    log: LogFunction

    def finalize(
        self,
        record: Record,
        net: nn.Module,
        phase_timer: PhaseTimer,
        *,
        front: Sequence[Record] = (),
        stop: ShouldStop | None = None,
    ) -> Record:
        """The record with every figure of the file of a trained network.

        A member of the front with INT8 units may be trained further in its quantised form, and is timed beside its FP32
        baseline, which has the same weights.

        Args:
            record: with candidate, phase, rung, epochs and the latency of the untrained file.
            net: the candidate's network in its final shape.
            phase_timer: adds up the seconds.
            front: of the search so far.
            stop: called before each step of quantisation-aware training; True ends it there.

        Raises:
            CandidateError: export, parity or timing fails.
        """
        candidate, is_final = record.candidate, record.phase != "search"
        model_path = _model_path(record)
        self.log("compress, export")
        graph, notes = self._final_graph(record, net.eval(), phase_timer, stop)
        notes += (*self.compression.notes(graph, candidate), *self.builder.notes)
        with ExitStack() as stack:
            with phase_timer("export"):
                file = self._export(graph, self.folder.path / model_path, self._metadata(record))
                files = [file]
                if is_final and (baseline := self.compression.fp32_baseline(candidate)):
                    files.append(stack.enter_context(self._exported_baseline(baseline, net, key=candidate.key)))
                costs = [compute_costs(exported.path) for exported in files]
            self.log("score the file")
            with phase_timer("score"):
                scores = self._score_files(graph, files, candidate.bits, use_test_split=is_final)
            self.log("measure the file")
            with phase_timer("measure"):
                sized = replace(record, size_bytes=file.size_bytes)
                latencies, hosts = self.latency_evaluator.measure_final(
                    [exported.path for exported in files], costs, key=candidate.key, is_final=is_final,
                    untrained_latency=record.latency,
                    would_enter_front=lambda latency: self.would_enter_front(sized, scores.val, latency, front),
                )  # fmt: skip
        speedup = int8_speedup(*latencies) if len(files) > 1 else record.gain
        broken = violations(
            self.limits, self.objectives, latency=latencies[0], size_bytes=file.size_bytes,
            memory_bytes=costs[0].memory_bytes, accuracy=scores.val.accuracy, int8_speedup=speedup,
        )  # fmt: skip
        reason = describe_violations(broken, speedup)
        parity = scores.parity
        return replace(
            record, status="infeasible" if reason else "complete", reason=reason, violations=broken,
            latency=latencies[0], host=hosts[0], gain=speedup, before=scores.baseline, notes=(*record.notes, *notes),
            score=scores.val, accuracy_split=self.split_name, test=scores.test,
            parity={"max_difference": parity.max_difference, "agreement": parity.agreement, "n": parity.n_images},
            size_bytes=file.size_bytes, packed_bytes=packed_bytes(file.path), params=costs[0].params,
            nonzero_params=costs[0].nonzero_params, macs=costs[0].macs, activation_bytes=costs[0].activation_bytes,
            memory_bytes=costs[0].memory_bytes, model=model_path, sha256=file.sha256,
            seconds=phase_timer.seconds, finished=utc_timestamp(),
        )  # fmt: skip

    def would_enter_front(self, record: Record, val_score: Score, latency: Latency, front: Sequence[Record]) -> bool:
        """Whether a record of the search, given this score and latency, would enter the front."""
        records = [*front, replace(record, score=val_score, latency=latency)]
        points = objective_values(records, self.objectives)
        return bool(non_dominated(points, maximize_flags(self.objectives))[-1])

    @property
    def split_name(self) -> str:
        """The selection split in words; synthetic images are named as such."""
        return f"val ({self.data.val_name}{', synthetic faces' if self.data.synthetic else ''})"

    def _final_graph(
        self, record: Record, net: nn.Module, phase_timer: PhaseTimer, stop: ShouldStop | None
    ) -> tuple[fx.GraphModule, tuple[str, ...]]:
        """The graph to export, and notes: quantised after training, or in training where that is more accurate."""
        candidate = record.candidate
        with phase_timer("export"):
            graph = self.builder.compress_graph(candidate, net, n_images=CALIBRATION_IMAGES)
        epochs = self.compression_config.qat * record.epochs
        if record.phase != "verified" or INT8_BITS not in candidate.bits.values() or not epochs:
            return graph, ()

        with phase_timer("score"):
            lost = self.trainer.accuracy(net) - self.trainer.accuracy(graph)
        if lost <= MAX_QUANTIZATION_LOSS:
            return graph, (f"quantised after training, which cost {100 * lost:.2f} points of accuracy",)

        def fit(module: nn.Module) -> None:
            self.trainer.fit_quantized(candidate, module, epochs, phase_timer, stop)

        context = self.builder.compression_context(candidate, CALIBRATION_IMAGES)
        tuned = self.compression.compress_graph(net, context, fit=fit)
        with phase_timer("score"):
            before, after = (self.trainer.accuracy(form) for form in (graph, tuned))
        # At equal accuracy the graph stays that nothing more was done to.
        if after <= before:
            return graph, (f"quantised after training; training on in 8 bits gave {after - before:+.2%}",)
        return tuned, (f"trained on in 8 bits for {epochs:.1f} epochs, which gave {after - before:+.2%}",)

    @contextmanager
    def _exported_baseline(self, baseline: Candidate, net: nn.Module, *, key: str) -> Iterator[ExportedFile]:
        """The file of the FP32 baseline of the candidate `key`, of the same weights; deleted afterwards."""
        path = self.folder.path / "models" / f".twin-{key}-{os.getpid()}.onnx"
        try:
            yield self._export(self.builder.compress_graph(baseline, net, n_images=CALIBRATION_IMAGES), path, {})
        finally:
            path.unlink(missing_ok=True)

    def _export(self, graph: fx.GraphModule, path: Path, metadata: dict[str, str]) -> ExportedFile:
        return export_onnx(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata=metadata)

    def _score_files(
        self, graph: fx.GraphModule, files: Sequence[ExportedFile], bits: Mapping[str, int], *, use_test_split: bool
    ) -> "_Scores":
        """Check the first file against its graph and score it; score the second, the FP32 baseline, on val alone.

        Raises:
            ParityError: torch and the runtime disagree.
        """
        with self._open(files[0]) as session:
            parity = check_parity(
                graph, session, self.data.val.images[:N_PARITY_IMAGES], path=files[0].path,
                load=self.host_runtime.load, max_difference=parity_tolerance(bits),
            )  # fmt: skip
            val = score(session.predict, self.data.val, self.data.classes)
            test_split = self.data.test if use_test_split else None
            test = score(session.predict, test_split, self.data.classes) if test_split is not None else None
        baseline = None
        if len(files) > 1:
            with self._open(files[1]) as session:
                baseline = score(session.predict, self.data.val, self.data.classes)
        return _Scores(val=val, test=test, baseline=baseline, parity=parity)

    def _open(self, file: ExportedFile) -> "closing[Session]":
        """A session on a file, closed at the end of the block: its threads would disturb the next measurement."""
        return closing(self.host_runtime.load(file.path, threads=self.trainer.threads))

    def _metadata(self, record: Record) -> dict[str, str]:
        return {
            "space": record.candidate.space,
            "candidate": record.candidate.to_json(),
            "key": record.key,
            "dataset": self.data.name,
            "dataset_digest": self.data_digest,
            "synthetic": json.dumps(self.data.synthetic),
            "trained_epochs": f"{record.epochs:.2f}",
            **({"teacher": record.teacher} if record.teacher else {}),
            "versions": json.dumps({"torch": torch.__version__, **self.host_runtime.versions()}),
        }


@dataclass(frozen=True, kw_only=True)
class _Scores:
    """Scores of a candidate's file on both splits, of its FP32 baseline on val, and the parity of the former."""

    val: Score
    test: Score | None
    baseline: Score | None
    parity: Parity


def _model_path(record: Record) -> str:
    """Path of a record's file below the run folder; the file of the search stays beside the verified one."""
    suffix = (f"-{record.phase}" if record.phase != "search" else "") + (f"-{record.seed}" if record.seed else "")
    return f"models/{record.key}{suffix}.onnx"
