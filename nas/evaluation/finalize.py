"""From a trained net to the file that ships, and its record: every figure in it was read off that file."""

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import fx, nn

from hw_profiles._base import INT8_BITS
from nas.candidate import Candidate
from nas.compression.pipeline import CompressionPipeline
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.evaluation.constraints import describe_violations, violations
from nas.evaluation.latency_evaluator import LatencyEvaluator
from nas.latency.costs import compute_costs, packed_bytes
from nas.latency.estimate import Latency
from nas.latency.speedup import int8_speedup
from nas.metrics import Score, score
from nas.onnx_export.exporter import ExportedFile, export_onnx
from nas.onnx_export.parity import Parity, check_parity, parity_tolerance
from nas.pareto import non_dominated
from nas.results.front import maximize_flags, objective_values, search_front
from nas.results.phase_timer import PhaseTimer
from nas.results.record import Record, utc_timestamp
from nas.results.run_folder import RunFolder
from nas.runtimes.base import Runtime
from nas.training.trainer import CALIBRATION_IMAGES, QAT_EXECUTION, ShouldStop, Trainer, TrainingPhase

N_PARITY_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class ArtifactEvaluator:
    """Compresses, exports, gates, scores and measures trained nets.

    Attributes:
        config: what was asked.
        folder: where files go.
        compression: what is done to nets.
        data: faces.
        digest: of the data, part of every file's metadata.
        runtime: runs files on this machine.
        trainer: has trained the nets.
        stopwatch: times the files.
    """

    config: SearchConfig
    folder: RunFolder
    compression: CompressionPipeline
    data: FaceData
    data_digest: str
    host_runtime: Runtime
    trainer: Trainer
    latency_evaluator: LatencyEvaluator

    def finalize(
        self, record: Record, net: nn.Module, phase_timer: PhaseTimer, *, stop: ShouldStop | None = None
    ) -> Record:
        """The record with everything that can be read off the file of a trained net.

        A verified net with 8-bit units may learn on in its quantised form, and is timed beside its float twin.

        Raises:
            CandidateError: export or parity fails.
        """
        candidate, verified = record.candidate, record.phase != "search"
        name = _model_path(record)
        self.trainer.log("compress, export")
        graph, notes = self._final_graph(record, net.eval(), phase_timer, stop)
        notes += self.compression.notes(graph, candidate)
        with ExitStack() as held:
            with phase_timer("export"):
                file = self._export(graph, self.folder.path / name, self._metadata(record))
                files = [file]
                if verified and (twin := self.compression.fp32_baseline(candidate)):
                    beside = self.folder.path / "models" / f".twin-{candidate.key}-{os.getpid()}.onnx"
                    held.callback(beside.unlink, missing_ok=True)
                    files.append(
                        self._export(self.trainer.compress_graph(twin, net, n_images=CALIBRATION_IMAGES), beside, {})
                    )
                counted = [compute_costs(each.path) for each in files]
            self.trainer.log("score the file")
            with phase_timer("score"):
                scored, tested, agreed = self._score_and_check_parity(graph, file, candidate, use_test_split=verified)
                before = self._score_file(files[1].path) if len(files) > 1 else None
            self.trainer.log("measure the file")
            with phase_timer("measure"):
                latencies, hosts = self.latency_evaluator.measure_final(
                    [each.path for each in files], counted, key=candidate.key, is_final=verified, untrained_latency=record.latency,
                    would_enter_front=lambda latency: self.would_enter_front(replace(record, size_bytes=file.size_bytes), scored, latency),
                )  # fmt: skip
        gained = int8_speedup(*latencies) if len(files) > 1 else record.gain
        broken = violations(
            self.config, latency=latencies[0], size_bytes=file.size_bytes, accuracy=scored.accuracy, int8_speedup=gained
        )
        why = describe_violations(broken, gained)
        return replace(
            record, status="infeasible" if why else "complete", reason=why, violations=broken,
            latency=latencies[0], host=hosts[0], gain=gained, before=before, notes=(*record.notes, *notes),
            score=scored, accuracy_split=self.split_name, test=tested,
            parity={"max_difference": agreed.max_difference, "agreement": agreed.agreement, "n": agreed.n_images},
            size_bytes=file.size_bytes, packed_bytes=packed_bytes(file.path), params=counted[0].params,
            nonzero_params=counted[0].nonzero_params, macs=counted[0].macs, model=name, sha256=file.sha256,
            seconds=phase_timer.seconds, finished=utc_timestamp(),
        )  # fmt: skip

    def would_enter_front(self, record: Record, score: Score, latency: Latency) -> bool:
        """Whether a record of the search would enter the front with this score and latency."""
        objectives = self.config.search.objectives
        mine = replace(record, score=score, latency=latency)
        points = objective_values([*search_front(self.folder.records(), objectives), mine], objectives)
        return bool(non_dominated(points, maximize_flags(objectives))[-1])

    @property
    def split_name(self) -> str:
        """The selection split in words; synthetic faces are called so."""
        return f"val ({self.data.val_name}{', synthetic faces' if self.data.synthetic else ''})"

    def _final_graph(
        self, record: Record, net: nn.Module, phase_timer: PhaseTimer, stop: ShouldStop | None
    ) -> tuple[fx.GraphModule, tuple[str, ...]]:
        """The graph of the file, and notes on it: quantised after training, or trained on so where that is better."""
        with phase_timer("export"):
            graph = self.trainer.compress_graph(record.candidate, net, n_images=CALIBRATION_IMAGES)
        epochs = self.config.compression.qat * record.epochs
        if record.phase != "verified" or INT8_BITS not in record.candidate.bits.values() or not epochs:
            return graph, ()

        def fit(module: nn.Module) -> None:
            cycle = TrainingPhase(name="quantised training", index=len(self.config.training.rungs) + 1, epochs=epochs)
            self.trainer.fit(record.candidate, module, cycle, phase_timer, stop, is_qat=True)

        context = self.trainer.compression_context(record.candidate, CALIBRATION_IMAGES)
        tuned = self.compression.compress_graph(net, context, fit=fit)
        with phase_timer("score"):
            after, trained = (self.trainer.accuracy(form, QAT_EXECUTION) for form in (graph, tuned))
        if trained <= after:
            return graph, (f"quantised after training; training on in 8 bits gave {trained - after:+.2%}",)
        return tuned, (f"trained on in 8 bits for {epochs:.1f} epochs, which gave {trained - after:+.2%}",)

    def _export(self, graph: fx.GraphModule, path: Path, metadata: dict[str, str]) -> ExportedFile:
        return export_onnx(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata=metadata)

    def _score_and_check_parity(
        self, graph: fx.GraphModule, file: ExportedFile, candidate: Candidate, *, use_test_split: bool
    ) -> tuple[Score, Score | None, Parity]:
        """The file's score on the selection split, on the test split if asked and there is one, and its parity."""
        session = self.host_runtime.load(file.path, threads=self.trainer.threads)
        try:
            agreed = check_parity(
                graph, session, self.data.val.images[:N_PARITY_IMAGES], path=file.path, load=self.host_runtime.load,
                max_difference=parity_tolerance(candidate.bits),
            )  # fmt: skip
            scored = score(session.predict, self.data.val, self.data.classes)
            held_out = self.data.test if use_test_split else None
            tested = score(session.predict, held_out, self.data.classes) if held_out is not None else None
        finally:
            session.close()
        return scored, tested, agreed

    def _score_file(self, path: Path) -> Score:
        session = self.host_runtime.load(path, threads=self.trainer.threads)
        try:
            return score(session.predict, self.data.val, self.data.classes)
        finally:
            session.close()

    def _metadata(self, record: Record) -> dict[str, str]:
        return {
            "space": self.trainer.space.name,
            "candidate": record.candidate.to_json(),
            "key": record.key,
            "dataset": self.data.name,
            "dataset_digest": self.data_digest,
            "synthetic": json.dumps(self.data.synthetic),
            "trained_epochs": f"{record.epochs:.2f}",
            **({"teacher": record.teacher} if record.teacher else {}),
            "versions": json.dumps({"torch": torch.__version__, **self.host_runtime.versions()}),
        }


def _model_path(record: Record) -> str:
    """Where a record's file goes, below the run folder: the search's own file stays beside the verified one."""
    suffix = (f"-{record.phase}" if record.phase != "search" else "") + (f"-{record.seed}" if record.seed else "")
    return f"models/{record.key}{suffix}.onnx"
