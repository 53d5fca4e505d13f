"""From a trained net to the file that ships, and its record: every figure in it was read off that file."""

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import fx, nn

from nas.candidate import Candidate
from nas.compression.pipeline import INTEGER_BITS, Compression
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.evaluation.constraints import violation_words, violations
from nas.evaluation.latency_evaluator import Stopwatch
from nas.latency.costs import costs, packed_bytes
from nas.latency.estimate import Measurement
from nas.latency.speedup import gain
from nas.metrics import Score, score
from nas.onnx_export.exporter import ExportedFile, export
from nas.onnx_export.parity import Parity, check_parity, tolerance
from nas.pareto import non_dominated
from nas.results.front import directions, search_front, values
from nas.results.phase_timer import Clock
from nas.results.record import Record, now
from nas.results.run_folder import RunFolder
from nas.runtimes.base import Runtime
from nas.training.trainer import CALIBRATION_IMAGES, QAT_EXECUTION, Cycle, Stop, Trainer

PARITY_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Finisher:
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
    compression: Compression
    data: FaceData
    digest: str
    runtime: Runtime
    trainer: Trainer
    stopwatch: Stopwatch

    def finish(self, record: Record, net: nn.Module, clock: Clock, *, stop: Stop | None = None) -> Record:
        """The record with everything that can be read off the file of a trained net.

        A verified net with 8-bit units may learn on in its quantised form, and is timed beside its float twin.

        Raises:
            CandidateError: export or parity fails.
        """
        candidate, verified = record.candidate, record.phase != "search"
        name = _file_name(record)
        self.trainer.watch("compress, export")
        graph, notes = self._final_graph(record, net.eval(), clock, stop)
        notes += self.compression.notes(graph, candidate)
        with ExitStack() as held:
            with clock("export"):
                file = self._export(graph, self.folder.path / name, self._metadata(record))
                files = [file]
                if verified and (twin := self.compression.float_twin(candidate)):
                    beside = self.folder.path / "models" / f".twin-{candidate.key}-{os.getpid()}.onnx"
                    held.callback(beside.unlink, missing_ok=True)
                    files.append(self._export(self.trainer.graph(twin, net, images=CALIBRATION_IMAGES), beside, {}))
                counted = [costs(each.path) for each in files]
            self.trainer.watch("score the file")
            with clock("score"):
                scored, tested, agreed = self._scored(graph, file, candidate, test=verified)
                before = self._score(files[1].path) if len(files) > 1 else None
            self.trainer.watch("measure the file")
            with clock("measure"):
                latencies, hosts = self.stopwatch.finished(
                    [each.path for each in files], counted, key=candidate.key, verified=verified, draft=record.latency,
                    enters=lambda latency: self.enters(replace(record, size_bytes=file.size_bytes), scored, latency),
                )  # fmt: skip
        gained = gain(*latencies) if len(files) > 1 else record.gain
        broken = violations(
            self.config, latency=latencies[0], size_bytes=file.size_bytes, accuracy=scored.accuracy, gained=gained
        )
        why = violation_words(broken, gained)
        return replace(
            record, status="infeasible" if why else "complete", reason=why, violations=broken,
            latency=latencies[0], host=hosts[0], gain=gained, before=before, notes=(*record.notes, *notes),
            score=scored, accuracy_split=self.split_name, test=tested,
            parity={"max_difference": agreed.max_difference, "agreement": agreed.agreement, "n": agreed.n},
            size_bytes=file.size_bytes, packed_bytes=packed_bytes(file.path), params=counted[0].params,
            nonzero_params=counted[0].nonzero_params, macs=counted[0].macs, model=name, sha256=file.sha256,
            seconds=clock.seconds, finished=now(),
        )  # fmt: skip

    def enters(self, record: Record, scored: Score, latency: Measurement) -> bool:
        """Whether a record of the search would enter the front with this score and latency."""
        objectives = self.config.objectives
        mine = replace(record, score=scored, latency=latency)
        points = values([*search_front(self.folder.records(), objectives), mine], objectives)
        return bool(non_dominated(points, directions(objectives))[-1])

    @property
    def split_name(self) -> str:
        """The selection split in words; synthetic faces are called so."""
        return f"val ({self.data.val_name}{', synthetic faces' if self.data.synthetic else ''})"

    def _final_graph(
        self, record: Record, net: nn.Module, clock: Clock, stop: Stop | None
    ) -> tuple[fx.GraphModule, tuple[str, ...]]:
        """The graph of the file, and notes on it: quantised after training, or trained on so where that is better."""
        with clock("export"):
            graph = self.trainer.graph(record.candidate, net, images=CALIBRATION_IMAGES)
        epochs = self.config.qat * record.epochs
        if record.phase != "verified" or INTEGER_BITS not in record.candidate.bits.values() or not epochs:
            return graph, ()

        def fit(module: nn.Module) -> None:
            cycle = Cycle(what="quantised training", stage=len(self.config.rungs) + 1, epochs=epochs)
            self.trainer.fit(record.candidate, module, cycle, clock, stop, quantised=True)

        context = self.trainer.context(record.candidate, CALIBRATION_IMAGES)
        tuned = self.compression.graph(net, context, fit=fit)
        with clock("score"):
            after, trained = (self.trainer.accuracy(form, QAT_EXECUTION) for form in (graph, tuned))
        if trained <= after:
            return graph, (f"quantised after training; training on in 8 bits gave {trained - after:+.2%}",)
        return tuned, (f"trained on in 8 bits for {epochs:.1f} epochs, which gave {trained - after:+.2%}",)

    def _export(self, graph: fx.GraphModule, path: Path, metadata: dict[str, str]) -> ExportedFile:
        return export(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata=metadata)

    def _scored(
        self, graph: fx.GraphModule, file: ExportedFile, candidate: Candidate, *, test: bool
    ) -> tuple[Score, Score | None, Parity]:
        """The file's score on the selection split, on the test split if asked and there is one, and its parity."""
        session = self.runtime.load(file.path, threads=self.trainer.threads)
        try:
            agreed = check_parity(
                graph, session, self.data.val.images[:PARITY_IMAGES], path=file.path, load=self.runtime.load,
                max_difference=tolerance(candidate.bits),
            )  # fmt: skip
            scored = score(session.predict, self.data.val, self.data.classes)
            held_out = self.data.test if test else None
            tested = score(session.predict, held_out, self.data.classes) if held_out is not None else None
        finally:
            session.close()
        return scored, tested, agreed

    def _score(self, path: Path) -> Score:
        session = self.runtime.load(path, threads=self.trainer.threads)
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
            "dataset_digest": self.digest,
            "synthetic": json.dumps(self.data.synthetic),
            "trained_epochs": f"{record.epochs:.2f}",
            **({"teacher": record.teacher} if record.teacher else {}),
            "versions": json.dumps({"torch": torch.__version__, **self.runtime.versions()}),
        }


def _file_name(record: Record) -> str:
    """Where a record's file goes, below the run folder: the search's own file stays beside the verified one."""
    suffix = (f"-{record.phase}" if record.phase != "search" else "") + (f"-{record.seed}" if record.seed else "")
    return f"models/{record.key}{suffix}.onnx"
