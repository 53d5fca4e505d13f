"""The flow, on one page: a candidate goes in, one ONNX file and a record of what was read off it come out.

build, prune the shape, export untrained, count, measure     seconds: nobody trains what cannot be shipped
constraint broken? stop
train in rungs, promote the non-dominated                    minutes
prune, quantise, export, parity gate, score THE FILE, measure THE FILE
"""

import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import fx, nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression import INTEGER_BITS, Compression
from nas.config import SearchConfig
from nas.costs import Costs, costs
from nas.data._base import FaceData
from nas.errors import CandidateError, NasError
from nas.export import ExportedFile, Parity, check_parity, export, tolerance
from nas.front import directions, search_front, values
from nas.gain import NO_GAIN, Gain, gain
from nas.lessons._base import Course
from nas.measure import Measurement
from nas.packed import packed_bytes
from nas.pareto import non_dominated
from nas.proxies._base import Proxy
from nas.records import Phase, Record, RunFolder
from nas.runtimes._base import Runtime
from nas.score import Score, score
from nas.stopwatch import Stopwatch
from nas.timer import Timer
from nas.trainer import CALIBRATION_IMAGES, DRAFT_IMAGES, QAT_EXECUTION, Clock, Cycle, Start, Trainer, Watch
from search_spaces._base import SearchSpace

PARITY_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A candidate exported untrained: what it weighs and how fast it is, before a second of training.

    Attributes:
        costs: MACs and weights of the file.
        size_bytes: of the file.
        latency: on the target.
        host: on this machine; None when the target is predicted and nobody asked yet.
        gain: what its 8-bit units gain over the float twin; None where there are none.
    """

    costs: Costs
    size_bytes: int
    latency: Measurement
    host: Measurement | None
    gain: Gain | None = None


Promote = Callable[[int, float, Draft], bool]
"""(rungs done, accuracy there, the draft) to whether training goes on."""


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Turns candidates into records. All parts are handed in; nothing is looked up here.

    Attributes:
        config: what was asked.
        folder: where files go.
        space: builds nets.
        profile: the target.
        host: this machine.
        compression: what is done to nets.
        runtime: runs files on this machine.
        data: faces.
        digest: of the data, part of every file's metadata.
        board: times finished files on the target itself, where there is a way to it; drafts are predicted then.
        course: what nets learn from teachers; None without any.
        watch: told what is being done, in words.
        proxies: read off each draft that is to be trained.
        start: what candidates begin with; None lets them begin with fresh weights.
        repeat: number of the training, where a candidate is trained several times.
        timer: times files on this machine in a process of its own; None times them in this one.
    """

    config: SearchConfig
    folder: RunFolder
    space: SearchSpace
    profile: HardwareProfile
    host: HardwareProfile
    compression: Compression
    runtime: Runtime
    data: FaceData
    digest: str
    board: Runtime | None = None
    course: Course | None = None
    watch: Watch = lambda _: None
    start: Start | None = None
    proxies: Sequence[Proxy] = ()
    repeat: int = 0
    timer: Timer | None = None

    @property
    def trainer(self) -> Trainer:
        """Builds and trains the nets."""
        return Trainer(
            config=self.config, folder=self.folder, space=self.space, compression=self.compression, data=self.data,
            course=self.course, start=self.start, watch=self.watch, repeat=self.repeat,
        )  # fmt: skip

    @property
    def stopwatch(self) -> Stopwatch:
        """Times the files."""
        return Stopwatch(
            profile=self.profile, host=self.host, runtime=self.runtime, board=self.board, folder=self.folder,
            input_shape=self.data.input_shape, energy="energy" in self.config.objectives, watch=self.watch,
            timer=self.timer,
        )  # fmt: skip

    def evaluate(
        self,
        candidate: Candidate,
        *,
        trial: int,
        promote: Promote,
        deadline: Callable[[], bool] = lambda: False,
        stop: Callable[[], bool] | None = None,
    ) -> Record:
        """Everything about one candidate of the search. Never raises for what a candidate can do wrong.

        Args:
            candidate: what to build.
            trial: number of its Optuna trial.
            promote: decides after each rung.
            deadline: whether the time for the search is over; the candidate then ends with the rung it is in.
            stop: asked before each training step; True ends the rung there, and the record says how far it came.
        """
        clock, blank = Clock(), self.blank(candidate, trial, "search")
        return self._caught(blank, clock, lambda: self._evaluated(blank, clock, promote, deadline, stop))

    def verify(self, record: Record, *, epochs: float, stop: Callable[[], bool] | None = None) -> list[Record]:
        """Train a member of the front on from what it has learned, and read all figures off the new file.

        With `repeat` it begins anew, for all of its epochs. Never raises for what a candidate can do wrong.

        Args:
            record: a complete record of the search.
            epochs: passes over the training set, on top of those it had.
            stop: asked before each training step; True ends the training there.

        Returns:
            The member's record; before it that of its float twin, of the same weights, where 8 bits gain nothing.
        """
        clock, blank = Clock(), self.blank(record.candidate, record.trial, "verified")
        trained: list[nn.Module] = []

        def work() -> Record:
            net, told = self._trained_in_full(blank, record, epochs, stop, clock)
            trained.append(net)
            return self.finish(told, net, clock, stop=stop)

        found = self._caught(blank, clock, work)
        twin = self.compression.float_twin(record.candidate)
        if twin is None or found.violations.get(NO_GAIN, 0.0) <= 0:
            return [found]
        note = f"in the place of {blank.key}, whose 8-bit units gain nothing"
        other = replace(blank, key=twin.key, candidate=twin, rung=found.rung, epochs=found.epochs, notes=(note,))
        second = Clock()
        return [self._caught(other, second, lambda: self.finish(other, trained[0], second)), found]

    def draft(self, candidate: Candidate, clock: Clock | None = None) -> Draft:
        """Build, prune the shape, export untrained, count, measure beside the float twin. No weights are kept.

        Raises:
            CandidateError: any of it fails.
        """
        clock = clock or Clock()
        twin = self.compression.float_twin(candidate)
        with clock("build"):
            torch.manual_seed(0)
            net = self.trainer.shaped(candidate).eval()
        with ExitStack() as held:
            files = [held.enter_context(self._untrained(candidate, net, clock))]
            if twin is not None and not self._is_out(*files[0], clock):
                files.append(held.enter_context(self._untrained(twin, net, clock)))
            with clock("measure"):
                latencies = self.stopwatch.drafts(
                    [file.path for file, _ in files], [counted for _, counted in files], key=candidate.key,
                    limit_ms=self.config.max_latency,
                )  # fmt: skip
        file, counted = files[0]
        return Draft(
            costs=counted, size_bytes=file.size_bytes, latency=latencies[0],
            host=latencies[0] if self.stopwatch.is_host else None, gain=gain(*latencies) if len(files) > 1 else None,
        )  # fmt: skip

    def _is_out(self, file: ExportedFile, counted: Costs, clock: Clock) -> bool:
        """Whether a draft surely breaks a limit, so that its float twin need not be asked for what 8 bits gain."""
        if self.config.max_size and file.size_bytes > self.config.max_size:
            return True
        if not self.config.max_latency:
            return False
        with clock("measure"):
            return self.stopwatch.is_surely_above(file.path, counted, self.config.max_latency)

    @contextmanager
    def _untrained(self, candidate: Candidate, net: nn.Module, clock: Clock) -> Iterator[tuple[ExportedFile, Costs]]:
        """The file of a candidate's net with fresh weights, and what it costs; the file is gone afterwards."""
        with clock("build"):
            graph = self.trainer.graph(candidate, net, images=DRAFT_IMAGES, shapes_only=True)
        path = self.folder.path / "models" / f".draft-{candidate.key}-{os.getpid()}.onnx"
        try:
            with clock("export"):
                file = export(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata={})
                counted = costs(path)
            yield file, counted
        finally:
            path.unlink(missing_ok=True)

    def _proxied(self, candidate: Candidate, clock: Clock) -> dict[str, float]:
        """What the zero-cost proxies read off the candidate's net with fresh weights."""
        if not self.proxies:
            return {}
        with clock("proxies"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.trainer.seed(candidate, -1))
            net = self.trainer.shaped(candidate).eval()
            images = torch.from_numpy(self.trainer.context(candidate, DRAFT_IMAGES).images).float()
            found = {proxy.name: proxy.score(net, images) for proxy in self.proxies}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def violations(self, latency: Measurement | None, size: int | None, accuracy: float | None) -> dict[str, float]:
        """Constraint to the share by which it is broken; zero or less is kept. What is not known yet is left out."""
        found = {}
        if latency and self.config.max_latency:
            found["max_latency"] = latency.latency_ms / self.config.max_latency - 1
        if size and self.config.max_size:
            found["max_size"] = size / self.config.max_size - 1
        if accuracy is not None and self.config.min_accuracy:
            found["min_accuracy"] = self.config.min_accuracy - accuracy
        return found

    def _gains(self, found: Gain | None) -> dict[str, float]:
        """The violation of 8-bit units that must pay; none where a smaller file is a gain as well."""
        return {NO_GAIN: found.violation} if found is not None and "size" not in self.config.objectives else {}

    def finish(self, record: Record, net: nn.Module, clock: Clock, *, stop: Callable[[], bool] | None = None) -> Record:
        """Compress, export, gate, score and measure; every figure is the file's.

        A verified net with 8-bit units may learn on in its quantised form, and is timed beside its float twin.

        Raises:
            CandidateError: export or parity fails.
        """
        candidate, verified = record.candidate, record.phase != "search"
        suffix = (f"-{record.phase}" if verified else "") + (f"-{record.seed}" if record.seed else "")
        name = f"models/{candidate.key}{suffix}.onnx"
        self.watch("compress, export")
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
            self.watch("score the file")
            with clock("score"):
                scored, tested, agreed = self._scored(graph, file, candidate, test=verified)
                before = self._score(files[1].path) if len(files) > 1 else None
            self.watch("measure the file")
            with clock("measure"):
                latencies, hosts = self.stopwatch.finished(
                    [each.path for each in files], counted, key=candidate.key, verified=verified, draft=record.latency,
                    enters=lambda latency: self._enters(replace(record, size_bytes=file.size_bytes), scored, latency),
                )  # fmt: skip
        gained = gain(*latencies) if len(files) > 1 else record.gain
        broken = self.violations(latencies[0], file.size_bytes, scored.accuracy) | self._gains(gained)
        reason = self._broken(broken, gained)
        return replace(
            record, status="infeasible" if reason else "complete", reason=reason,
            latency=latencies[0], host=hosts[0], gain=gained, before=before, notes=(*record.notes, *notes),
            score=scored, accuracy_split=self.split_name, test=tested,
            parity={"max_difference": agreed.max_difference, "agreement": agreed.agreement, "n": agreed.n},
            size_bytes=file.size_bytes, packed_bytes=packed_bytes(file.path), params=counted[0].params,
            nonzero_params=counted[0].nonzero_params,
            macs=counted[0].macs, model=name, sha256=file.sha256, violations=broken, seconds=clock.seconds,
            finished=_now(),
        )  # fmt: skip

    def _enters(self, record: Record, scored: Score, latency: Measurement) -> bool:
        """Whether a record of the search would enter the front with this score and latency."""
        objectives = self.config.objectives
        mine = replace(record, score=scored, latency=latency)
        points = values([*search_front(self.folder.records(), objectives), mine], objectives)
        return bool(non_dominated(points, directions(objectives))[-1])

    def _final_graph(
        self, record: Record, net: nn.Module, clock: Clock, stop: Callable[[], bool] | None
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

    def _export(self, graph: fx.GraphModule, path: Path, metadata: Mapping[str, str]) -> ExportedFile:
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

    def _evaluated(
        self,
        blank: Record,
        clock: Clock,
        promote: Promote,
        deadline: Callable[[], bool],
        stop: Callable[[], bool] | None,
    ) -> Record:
        candidate = blank.candidate
        self.watch("export untrained, measure")
        draft = self.draft(candidate, clock)
        cheap = self.violations(self.stopwatch.at_best(draft.latency), draft.size_bytes, None) | self._gains(draft.gain)
        blank = replace(blank, gain=draft.gain, latency=draft.latency)
        if any(v > 0 for v in cheap.values()):
            return replace(
                blank, status="infeasible", reason=self._broken(cheap, draft.gain), violations=cheap,
                seconds=clock.seconds, latency=draft.latency, host=draft.host, size_bytes=draft.size_bytes,
                params=draft.costs.params, nonzero_params=draft.costs.nonzero_params, macs=draft.costs.macs,
                finished=_now(),
            )  # fmt: skip
        trainer, rungs = self.trainer, self.config.rungs
        blank = replace(blank, proxies=self._proxied(candidate, clock))
        net, rung = trainer.resume(candidate)
        # Asked before each rung, not after: so it is asked again if the process died between rung and answer.
        while net is None or (
            rung < len(rungs) and not deadline() and promote(rung, trainer.quick_accuracy(candidate, net, clock), draft)
        ):
            share = rungs[rung] - (rungs[rung - 1] if rung else 0.0)
            what = f"rung {rung + 1} of {len(rungs)}"
            had = rungs[rung - 1] * self.config.epochs if rung else 0.0
            cycle = self.trainer.cycle(what, rung, share * self.config.epochs, had)
            net, came = self.trainer.train(candidate, net, cycle, clock, stop)
            rung += 1
            if stop is not None and stop():  # not kept as a finished rung
                return self.finish(replace(blank, rung=rung, epochs=had + came), net, clock)
            self.trainer.save(candidate, net, rung)
        return self.finish(replace(blank, rung=rung, epochs=rungs[rung - 1] * self.config.epochs), net, clock)

    def _trained_in_full(
        self, blank: Record, record: Record, epochs: float, stop: Callable[[], bool] | None, clock: Clock
    ) -> tuple[nn.Module, Record]:
        """The net of a member after its final training, and its record so far."""
        net, rung = self.trainer.resume(record.candidate)
        had = self.config.rungs[rung - 1] * self.config.epochs if net is not None else 0.0
        if net is None:  # its weights are gone: it is trained from scratch, for all of its epochs
            epochs += record.epochs
        cycle = self.trainer.cycle("final training", len(self.config.rungs), epochs, had)
        trained, came = self.trainer.train(record.candidate, net, cycle, clock, stop)
        return trained, replace(blank, rung=max(rung, record.rung), epochs=had + came)

    def _caught(self, blank: Record, clock: Clock, work: Callable[[], Record]) -> Record:
        """What `work` returns, or why it failed: one candidate must never stop a search of hours."""
        try:
            return work()
        except CandidateError as error:
            reason = _one_line(error)
        except NasError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {_one_line(error)}"
        return replace(blank, status="failed", reason=reason, seconds=clock.seconds, finished=_now())

    @property
    def split_name(self) -> str:
        """The selection split in words; synthetic faces are called so."""
        return f"val ({self.data.val_name}{', synthetic faces' if self.data.synthetic else ''})"

    def blank(self, candidate: Candidate, trial: int, phase: Phase) -> Record:
        """A record without figures, which counts as failed."""
        worker = f"{platform.node()}/{os.getpid()}"
        taught = self.trainer.course_of(candidate, len(self.config.rungs) if phase != "search" else 0)
        return Record(
            trial=trial, key=candidate.key, status="failed", phase=phase, seed=self.repeat, candidate=candidate,
            worker=worker, teacher=taught.about if taught else "",
        )  # fmt: skip

    def failed(self, candidate: Candidate, *, trial: int, phase: Phase, reason: str) -> Record:
        """The record of a candidate that was given up, for this reason."""
        return replace(self.blank(candidate, trial, phase), reason=reason, finished=_now())

    def _broken(self, violations: Mapping[str, float], gained: Gain | None) -> str:
        word = {"min_accuracy": "missed"}
        return "; ".join(
            f"8 bits: {gained}" if name == NO_GAIN else f"{name} {word.get(name, 'exceeded')} by {v:.1%}"
            for name, v in violations.items()
            if v > 0
        )

    def _metadata(self, record: Record) -> dict[str, str]:
        return {
            "space": self.space.name,
            "candidate": record.candidate.to_json(),
            "key": record.key,
            "dataset": self.data.name,
            "dataset_digest": self.digest,
            "synthetic": json.dumps(self.data.synthetic),
            "trained_epochs": f"{record.epochs:.2f}",
            **({"teacher": record.teacher} if record.teacher else {}),
            "versions": json.dumps({"torch": torch.__version__, **self.runtime.versions()}),
        }


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
