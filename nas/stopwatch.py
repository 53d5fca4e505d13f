"""The latencies of a candidate's files: on this machine, and on the target, where they are measured or predicted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hw_profiles._base import HardwareProfile
from nas.costs import Costs
from nas.errors import MeasureError
from nas.latency.prediction import predict as predict_latency
from nas.measure import ATTEMPTS, DRIFT_LIMIT, Measurement, measure, measure_interleaved, measure_there
from nas.records import RunFolder
from nas.runtimes._base import Runtime

QUICK_RUNS = 200
"""Timed runs of a draft; the finished file gets `FULL_RUNS`."""
FULL_RUNS = 400

DRAFTED = "measured on the finished file; what was decided before and during training rests on a prediction"


@dataclass(frozen=True, kw_only=True)
class Stopwatch:
    """Times files here, and says what they take on the target.

    Attributes:
        profile: the target.
        host: this machine.
        runtime: runs files on this machine.
        board: times files on the target itself, where there is a way to it.
        input_shape: (C, H, W) of the files' input.
        energy: whether the board shall measure energy too.
        folder: where the logs of failures go.
        watch: told what is being done, in words.
    """

    profile: HardwareProfile
    host: HardwareProfile
    runtime: Runtime
    board: Runtime | None
    input_shape: tuple[int, int, int]
    energy: bool
    folder: RunFolder
    watch: Callable[[str], None]

    def drafts(self, paths: Sequence[Path], counted: Sequence[Costs]) -> tuple[list[Measurement], bool]:
        """Latencies of untrained files on the target, quickly, and whether they were measured."""
        if self.is_host:
            return self.here(paths, QUICK_RUNS, attempts=1), True
        return [predict_latency(each, self.profile) for each in counted], False

    def finished(self, paths: Sequence[Path], counted: Sequence[Costs]) -> tuple[list[Measurement], list[Measurement]]:
        """Latencies of finished files on the target, and on this machine.

        Raises:
            MeasureError: the board gives no figure; the end of its log is kept beside the file.
        """
        hosts = self.here(paths, FULL_RUNS)
        return self.on_target(paths, counted, hosts), hosts

    def here(self, paths: Sequence[Path], runs: int, attempts: int = ATTEMPTS) -> list[Measurement]:
        """Latencies on this machine; several files side by side, so that they can be compared.

        What was disturbed, as the reference network's drift tells, is repeated; the calmest attempt counts.
        """
        device, shape = self.host.title, self.input_shape
        if len(paths) > 1:
            made: list[list[Measurement]] = []
            while len(made) < attempts and not (made and _drift(made[-1]) <= DRIFT_LIMIT):
                made.append(measure_interleaved(paths, self.runtime, device=device, input_shape=shape, runs=runs))
            return min(made, key=_drift)
        return [
            measure(path, self.runtime, device=device, input_shape=shape, runs=runs, attempts=attempts)
            for path in paths
        ]

    def on_target(
        self, paths: Sequence[Path], counted: Sequence[Costs], hosts: Sequence[Measurement]
    ) -> list[Measurement]:
        """The files' latencies on the target: this machine's, the board's, or predictions.

        Raises:
            MeasureError: the board gives no figure; the end of its log is kept beside the file.
        """
        if self.board is None:
            return list(hosts) if self.profile.local else [predict_latency(c, self.profile) for c in counted]
        answers = measure_there(paths, self.board, self.profile, energy=self.energy, say=self.watch)
        latencies = []
        for path, found in zip(paths, answers, strict=True):
            if isinstance(found, MeasureError):
                if found.log:
                    self.folder.write(f"models/{path.stem}-board.log", "\n".join(found.log) + "\n")
                raise found
            latencies.append(replace(found, notes=(*found.notes, DRAFTED)))
        return latencies

    def at_best(self, latency: Measurement) -> Measurement:
        """What a draft is held against limits with: where the board will have the last word, the lowest it may be."""
        return latency if self.board is None else replace(latency, latency_ms=latency.low_ms)

    @property
    def is_host(self) -> bool:
        """Whether this machine's runtime times the target."""
        return self.profile.local and self.board is None


def _drift(found: Sequence[Measurement]) -> float:
    return max(abs(each.drift or 0.0) for each in found)
