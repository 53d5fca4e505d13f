"""The latencies of a candidate's files: on this machine, and on the target, where they are measured or predicted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.evaluation.online_latency import Screen, is_sure
from nas.latency.costs import Costs
from nas.latency.estimate import Measurement, at_best
from nas.latency.measured.timing import PATIENCE_S, measure, measure_interleaved, measure_there
from nas.latency.measured.timing_loop import Plan
from nas.latency.measured.worker import Timer
from nas.latency.predicted.predict import predict as predict_latency
from nas.results.run_folder import RunFolder
from nas.runtimes.base import Runtime

QUICK_RUNS = 200
"""Timed runs of a draft, and of a finished file during the search, at most."""
FULL_RUNS = 400
"""Timed runs of a file that was trained in full, at most."""
LEAST_RUNS = 200
"""Of a file that was trained in full, however long they take."""
QUICK_S = 1.0
"""Seconds that timing a draft and its twin may take."""
SEARCHED_S = 2.0
"""Seconds that timing a finished file may take during the search."""
GLANCE_S = 0.25
CALM_S = PATIENCE_S
"""How long a file that was trained in full waits for a calm machine."""
QUICK_CALM_S = 0.3

DRAFTED = "measured on the finished file; what was decided before and during training rests on a prediction"
SCREENED = "learned from what this search measured on the target; not measured there, as it is sure and off the front"
UNTRAINED = "measured on the untrained file, and not again, as it is off the front"


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
        folder: where the logs of failures go, and what a board has told.
        watch: told what is being done, in words.
        timer: a process of its own that times on this machine; None times in this one.
    """

    profile: HardwareProfile
    host: HardwareProfile
    runtime: Runtime
    board: Runtime | None
    input_shape: tuple[int, int, int]
    energy: bool
    folder: RunFolder
    watch: Callable[[str], None]
    timer: Timer | None = None

    def drafts(
        self, paths: Sequence[Path], counted: Sequence[Costs], *, key: str = "", limit_ms: float | None = None
    ) -> list[Measurement]:
        """Latencies of untrained files on the target, quickly. All are measured, or all are predicted.

        On this machine timing ends as soon as it is precise, surely above the limit, or the time is up. A board is
        asked where the prediction is not sure, unless it is sure that the limit is broken.

        Args:
            paths: the candidate's file and, where it has one, its twin's.
            counted: what each of them costs.
            key: of the candidate.
            limit_ms: what the candidate must not exceed.

        Raises:
            MeasureError: the device gives no figure; the end of a board's log is kept under the candidate's key.
        """
        if self.is_host:
            plan = Plan(runs=QUICK_RUNS, precise=0.01, limit_s=QUICK_S, patience_s=QUICK_CALM_S, ceiling_ms=limit_ms)
            return self.here(paths, plan)
        predicted = [self._predicted(each) for each in counted]
        is_out = limit_ms is not None and predicted[0].low_ms > limit_ms
        if self.board is None or is_out or all(map(is_sure, predicted)):
            return predicted
        return self._asked(paths, counted, key)

    def is_surely_above(self, path: Path, counted: Costs, limit_ms: float) -> bool:
        """Whether a short look at an untrained file tells that it takes longer than so many milliseconds."""
        if not self.is_host:
            return self._predicted(counted).low_ms > limit_ms and self.board is not None
        plan = Plan(runs=QUICK_RUNS, least=5, limit_s=GLANCE_S, ceiling_ms=limit_ms, precise=0.02)
        found = self.here([path], plan)[0]
        return at_best(found).low_ms > limit_ms

    def finished(
        self,
        paths: Sequence[Path],
        counted: Sequence[Costs],
        *,
        key: str = "",
        verified: bool = True,
        draft: Measurement | None = None,
        enters: Callable[[Measurement], bool] = lambda _: True,
    ) -> tuple[list[Measurement], list[Measurement]]:
        """Latencies of finished files on the target, and on this machine.

        Args:
            paths: the candidate's file and, where it is timed beside one, its twin's.
            counted: what each of them costs.
            key: of the candidate.
            verified: whether they were trained in full: then they are measured at length, and by a board in any case.
            draft: what the untrained file took.
            enters: whether the candidate would enter the front with such a latency.

        Raises:
            MeasureError: the device gives no figure; the end of a board's log is kept under the candidate's key.
        """
        full = Plan(runs=FULL_RUNS, least=min(LEAST_RUNS, FULL_RUNS), precise=0.003, patience_s=CALM_S)
        quick = Plan(runs=QUICK_RUNS, limit_s=SEARCHED_S, patience_s=QUICK_CALM_S)
        hosts = self.here(paths, full if verified else quick)
        if self.board is None:
            return list(hosts) if self.profile.local else [self._predicted(c) for c in counted], hosts
        if draft is not None and not verified and not self.energy and not enters(self.likely(draft)):
            if draft.kind == "measured":
                return [replace(draft, notes=(*draft.notes, UNTRAINED))], hosts
            if is_sure(draft):
                return [replace(draft, notes=(*draft.notes, SCREENED))], hosts
        found = self._asked(paths, counted, key)
        told = (DRAFTED,) if draft is not None and draft.kind == "predicted" else ()
        return [replace(each, notes=(*each.notes, *told)) for each in found], hosts

    def here(self, paths: Sequence[Path], plan: Plan) -> list[Measurement]:
        """Latencies on this machine; several files side by side, so that they can be compared."""
        device, shapes = self.host.title, [self.input_shape] * len(paths)
        if self.timer is not None:
            return self.timer.measure(paths, runtime=self.runtime.name, device=device, input_shape=shapes, plan=plan)
        if len(paths) == 1:
            return [measure(paths[0], self.runtime, device=device, input_shape=self.input_shape, plan=plan)]
        return measure_interleaved(paths, self.runtime, device=device, input_shape=shapes, plan=plan)

    def likely(self, latency: Measurement) -> Measurement:
        """What is held against limits: a prediction where the device has the last word counts as its lower end."""
        is_guess = self.board is not None and latency.kind == "predicted"
        return replace(latency, latency_ms=latency.low_ms) if is_guess else latency

    @property
    def is_host(self) -> bool:
        """Whether this machine's runtime times the target."""
        return self.profile.local and self.board is None

    @property
    def screen(self) -> Screen:
        """What was learned of the board in this run."""
        return Screen(folder=self.folder, profile=self.profile)

    def _predicted(self, counted: Costs) -> Measurement:
        """By what this run has learned of its board, or by the target's calibration or profile, whichever is surer."""
        known = predict_latency(counted, self.profile)
        learned = self.screen.predict(counted) if self.board is not None else None
        return learned if learned is not None and _width(learned) < _width(known) else known

    def _asked(self, paths: Sequence[Path], counted: Sequence[Costs], key: str) -> list[Measurement]:
        """What the board takes for the files.

        Raises:
            MeasureError: the board gives no figure; the end of its log is kept under the candidate's key.
        """
        assert self.board is not None  # noqa: S101
        answers = measure_there(paths, self.board, self.profile, energy=self.energy, say=self.watch)
        found = []
        for path, answer, costs in zip(paths, answers, counted, strict=True):
            if isinstance(answer, MeasureError):
                if answer.log:
                    self.folder.write(f"models/{key or path.stem}-board.log", "\n".join(answer.log) + "\n")
                raise answer
            self.screen.add(path.stem, costs, answer)
            found.append(answer)
        return found


def _width(predicted: Measurement) -> float:
    return (predicted.high_ms - predicted.low_ms) / predicted.latency_ms
