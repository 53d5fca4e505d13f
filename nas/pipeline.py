"""The flow, on one page: a candidate goes in, one ONNX file and a record of what was read off it come out.

build, prune the shape, export untrained, count, measure     seconds: nobody trains what cannot be shipped
constraint broken? stop
train in rungs, promote the non-dominated                    minutes
prune, quantise, export, parity gate, score THE FILE, measure THE FILE
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx, nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression import INTEGER_BITS, Compression
from nas.compressors._base import Context
from nas.config import SearchConfig
from nas.costs import Costs, costs
from nas.data._base import FaceData
from nas.errors import CandidateError, MeasureError, NasError
from nas.export import ExportedFile, Parity, check_parity, export, tolerance
from nas.gain import NO_GAIN, Gain, gain
from nas.latency.prediction import predict as predict_latency
from nas.lessons._base import Course
from nas.measure import ATTEMPTS, Measurement, measure, measure_interleaved, measure_there
from nas.packed import packed_bytes
from nas.records import Phase, Record, RunFolder
from nas.runtimes._base import Runtime
from nas.score import Score, score
from nas.train import Execution, choose_execution, predict, recipe_for, train
from search_spaces._base import SearchSpace

CALIBRATION_IMAGES = 256
DRAFT_IMAGES = 32
"""Calibrate an untrained file, whose accuracy nobody reads."""
PARITY_IMAGES = 256
QUICK_RUNS = 200
"""Timed runs of a draft; the finished file gets `FULL_RUNS`."""
FULL_RUNS = 400

QAT_EXECUTION = Execution()
"""Quantised graphs are compared in plain float32: rounding to a grid must not be rounded again."""
QAT_LR_SCALE = 0.05
"""Share of the peak learning rate in quantised training, which starts from trained weights."""

DRAFTED = "measured on the finished file; what was decided before and during training rests on a prediction"

Watch = Callable[[str], None]


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
class Cycle:
    """One schedule of training: its name, its number (for the seed), its epochs, and those the net had before.

    Where channels leave on the way, `part` counts its parts, so that none sees the same faces in the same order again.
    """

    what: str
    stage: int
    epochs: float
    had: float = 0.0
    part: int = 0

    @property
    def lr_scale(self) -> float:
        """Share of the full learning rate: a short cycle at the full rate undoes more than it has time to repair."""
        return min(1.0, max(0.2, self.epochs / (2 * self.had))) if self.had else 1.0


@dataclass(frozen=True, kw_only=True)
class Start:
    """Trained weights of the space's one net in full width, that every candidate begins with, and their epochs."""

    state: Mapping[str, Tensor]
    epochs: float


@dataclass
class Clock:
    """Seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Add the block's time to a phase."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - begin


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
        start: what candidates begin with; None lets them begin with fresh weights.
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

        Never raises for what a candidate can do wrong.

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
        with ExitStack() as held:
            files = [held.enter_context(self._untrained(c, clock)) for c in (candidate, twin) if c is not None]
            paths = [file.path for file, _ in files]
            with clock("measure"):
                hosts = [*self._hosts(paths, QUICK_RUNS, attempts=1)] if self._is_host else [None] * len(files)
                latencies = [
                    host or predict_latency(counted, self.profile)
                    for host, (_, counted) in zip(hosts, files, strict=True)
                ]
        (file, counted), *_ = files
        gained = gain(*latencies) if twin is not None else None
        return Draft(costs=counted, size_bytes=file.size_bytes, latency=latencies[0], host=hosts[0], gain=gained)

    @contextmanager
    def _untrained(self, candidate: Candidate, clock: Clock) -> Iterator[tuple[ExportedFile, Costs]]:
        """The candidate's file with fresh weights, and what it costs; the file is gone afterwards."""
        with clock("build"):
            torch.manual_seed(0)
            graph = self._compressed(candidate, self.shaped(candidate).eval(), images=DRAFT_IMAGES)
        path = self.folder.path / "models" / f".draft-{candidate.key}-{os.getpid()}.onnx"
        try:
            with clock("export"):
                file = export(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata={})
                counted = costs(path)
            yield file, counted
        finally:
            path.unlink(missing_ok=True)

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

    def build(self, candidate: Candidate, widths: Mapping[str, int]) -> nn.Module:
        """The candidate's net with fresh weights, in these widths; not restructured."""
        return self.space.build(
            candidate.architecture,
            input_shape=self.data.input_shape,
            classes=len(self.data.classes),
            widths=widths,
        )

    def train(
        self,
        candidate: Candidate,
        net: nn.Module | None,
        cycle: Cycle,
        clock: Clock,
        stop: Callable[[], bool] | None = None,
    ) -> tuple[nn.Module, float]:
        """A net trained for one cycle, and the epochs it came.

        One that is to be reshaped learns in full for the first half if its weights are fresh, then its channels leave
        in steps, and it recovers after each.
        """
        if net is not None:
            return net, self._fit(candidate, net, cycle, clock, stop)
        torch.manual_seed(self._seed(candidate, -1))
        net = self.build(candidate, candidate.widths)
        if self.start is not None:
            net.load_state_dict(self.start.state)
        if not self.compression.reshapes(candidate):
            return net, self._fit(candidate, net, cycle, clock, stop)
        came, rest = 0.0, cycle.epochs
        if self.start is None:  # which weights matter is seen once they have learned something
            rest = cycle.epochs / 2
            before = replace(cycle, epochs=rest, what=f"{cycle.what}, before pruning")
            came = self._fit(candidate, net, before, clock, stop)
        steps = narrowing(candidate, steps=self.config.prune_steps, channel_multiple=self.profile.channel_multiple)
        for number, widths in enumerate(steps, start=1):
            net = self._narrowed(candidate, net, widths, last=number == len(steps), clock=clock)
            what = f"{cycle.what}, recovering" + (f" {number} of {len(steps)}" if len(steps) > 1 else "")
            part = replace(cycle, epochs=rest / len(steps), what=what, part=number)
            came += self._fit(candidate, net, part, clock, stop)
        return net, came

    def _narrowed(
        self, candidate: Candidate, net: nn.Module, widths: Mapping[str, int], *, last: bool, clock: Clock
    ) -> nn.Module:
        """The net with its most important channels; restructured when no more channels leave."""
        with clock("prune"):
            context = self._context(candidate, CALIBRATION_IMAGES)
            slim = self.build(candidate, widths)
            self.compression.prune(net, slim, context)
            return self.compression.shape(slim, context) if last else slim

    def shaped(self, candidate: Candidate) -> nn.Module:
        """The candidate's net in its final shape, with fresh weights."""
        context = replace(self._context(candidate, DRAFT_IMAGES), shapes_only=True)
        return self.compression.shape(self.build(candidate, candidate.pruned), context)

    def resume(self, candidate: Candidate) -> tuple[nn.Module | None, int]:
        """The net as it was after the last rung that was finished, and that rung; (None, 0) before the first."""
        for rung in range(len(self.config.rungs), 0, -1):
            path = self._checkpoint(candidate, rung)
            if path.exists():
                net = self.shaped(candidate)
                net.load_state_dict(torch.load(path, weights_only=True))
                return net.eval(), rung
        return None, 0

    def finish(self, record: Record, net: nn.Module, clock: Clock, *, stop: Callable[[], bool] | None = None) -> Record:
        """Compress, export, gate, score and measure; every figure is the file's.

        A verified net with 8-bit units may learn on in its quantised form, and is timed beside its float twin.

        Raises:
            CandidateError: export or parity fails.
        """
        candidate, verified = record.candidate, record.phase != "search"
        suffix = f"-{record.phase}" if verified else ""
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
                    files.append(self._export(self._compressed(twin, net, images=CALIBRATION_IMAGES), beside, {}))
                counted = [costs(each.path) for each in files]
            self.watch("score the file")
            with clock("score"):
                scored, tested, agreed = self._scored(graph, file, candidate, test=verified)
                before = self._score(files[1].path) if len(files) > 1 else None
            self.watch("measure the file")
            with clock("measure"):
                hosts = self._hosts([each.path for each in files], FULL_RUNS)
                latencies = self._on_target(files, counted, hosts)
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

    def _final_graph(
        self, record: Record, net: nn.Module, clock: Clock, stop: Callable[[], bool] | None
    ) -> tuple[fx.GraphModule, tuple[str, ...]]:
        """The graph of the file, and notes on it: quantised after training, or trained on so where that is better."""
        with clock("export"):
            graph = self._compressed(record.candidate, net, images=CALIBRATION_IMAGES)
        epochs = self.config.qat * record.epochs
        if record.phase != "verified" or INTEGER_BITS not in record.candidate.bits.values() or not epochs:
            return graph, ()

        def fit(module: nn.Module) -> None:
            cycle = Cycle(what="quantised training", stage=len(self.config.rungs) + 1, epochs=epochs)
            self._fit(record.candidate, module, cycle, clock, stop, quantised=True)

        context = self._context(record.candidate, CALIBRATION_IMAGES)
        tuned = self.compression.graph(net, context, fit=fit)
        with clock("score"):
            after, trained = (self._torch_accuracy(form, QAT_EXECUTION) for form in (graph, tuned))
        if trained <= after:
            return graph, (f"quantised after training; training on in 8 bits gave {trained - after:+.2%}",)
        return tuned, (f"trained on in 8 bits for {epochs:.1f} epochs, which gave {trained - after:+.2%}",)

    def _export(self, graph: fx.GraphModule, path: Path, metadata: Mapping[str, str]) -> ExportedFile:
        return export(graph, path, input_shape=self.data.input_shape, classes=self.data.classes, metadata=metadata)

    def _scored(
        self, graph: fx.GraphModule, file: ExportedFile, candidate: Candidate, *, test: bool
    ) -> tuple[Score, Score | None, Parity]:
        """The file's score on the selection split, on the test split if asked and there is one, and its parity."""
        session = self.runtime.load(file.path, threads=self.threads)
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
        session = self.runtime.load(path, threads=self.threads)
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
        cheap = self.violations(self._at_best(draft.latency), draft.size_bytes, None) | self._gains(draft.gain)
        blank = replace(blank, gain=draft.gain)
        if any(v > 0 for v in cheap.values()):
            return replace(
                blank, status="infeasible", reason=self._broken(cheap, draft.gain), violations=cheap,
                seconds=clock.seconds, latency=draft.latency, host=draft.host, size_bytes=draft.size_bytes,
                params=draft.costs.params, nonzero_params=draft.costs.nonzero_params, macs=draft.costs.macs,
                finished=_now(),
            )  # fmt: skip
        net, rung = self.resume(candidate)
        rungs = self.config.rungs
        # Asked before each rung, not after: so it is asked again if the process died between rung and answer.
        while net is None or (
            rung < len(rungs) and not deadline() and promote(rung, self._quick_accuracy(candidate, net, clock), draft)
        ):
            share = rungs[rung] - (rungs[rung - 1] if rung else 0.0)
            what = f"rung {rung + 1} of {len(rungs)}"
            had = rungs[rung - 1] * self.config.epochs if rung else 0.0
            cycle = self._cycle(what, rung, share * self.config.epochs, had)
            net, came = self.train(candidate, net, cycle, clock, stop)
            rung += 1
            if stop is not None and stop():  # not kept as a finished rung
                return self.finish(replace(blank, rung=rung, epochs=had + came), net, clock)
            self.save(candidate, net, rung)
        return self.finish(replace(blank, rung=rung, epochs=rungs[rung - 1] * self.config.epochs), net, clock)

    def _trained_in_full(
        self, blank: Record, record: Record, epochs: float, stop: Callable[[], bool] | None, clock: Clock
    ) -> tuple[nn.Module, Record]:
        """The net of a member after its final training, and its record so far."""
        net, rung = self.resume(record.candidate)
        had = self.config.rungs[rung - 1] * self.config.epochs if net is not None else 0.0
        if net is None:  # its weights are gone: it is trained from scratch, for all of its epochs
            epochs += record.epochs
        cycle = self._cycle("final training", len(self.config.rungs), epochs, had)
        trained, came = self.train(record.candidate, net, cycle, clock, stop)
        return trained, replace(blank, rung=max(rung, record.rung), epochs=had + came)

    def _cycle(self, what: str, stage: int, epochs: float, had: float) -> Cycle:
        """A schedule for a net that had some epochs, on top of those of the weights it began with."""
        return Cycle(what=what, stage=stage, epochs=epochs, had=had + (self.start.epochs if self.start else 0.0))

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

    @property
    def threads(self) -> int:
        """CPU threads for training and scoring."""
        return self.config.threads or os.cpu_count() or 1

    def _compressed(self, candidate: Candidate, net: nn.Module, *, images: int) -> fx.GraphModule:
        return self.compression.graph(net, self._context(candidate, images))

    def _context(self, candidate: Candidate, images: int) -> Context:
        """With training images spread evenly over the set: never noise, never validation."""
        rows = np.linspace(0, len(self.data.train) - 1, min(images, len(self.data.train))).astype(int)
        return Context(
            candidate=candidate, profile=self.profile, input_shape=self.data.input_shape,
            images=self.data.train.images[rows], labels=np.asarray(self.data.train.labels[rows], dtype=np.int64),
            seed=self._seed(candidate, -2), learned_steps=self.config.qat_steps == "learned",
        )  # fmt: skip

    def _fit(
        self,
        candidate: Candidate,
        net: nn.Module,
        cycle: Cycle,
        clock: Clock,
        stop: Callable[[], bool] | None,
        *,
        quantised: bool = False,
    ) -> float:
        recipe = recipe_for(sum(p.numel() for p in net.parameters()))
        execution = self._execution(candidate, net, recipe.batch_size, clock)
        lr_scale = QAT_LR_SCALE if quantised else cycle.lr_scale

        def say(epoch: float, loss: float) -> None:
            self.watch(f"{cycle.what}: epoch {epoch:.1f} of {cycle.epochs:.1f}, loss {loss:.2f}")

        context = self._context(candidate, CALIBRATION_IMAGES)
        with clock("train"), self.compression.training(net, context) as before_step:
            curve = train(
                net, self.data.train, classes=len(self.data.classes), epochs=cycle.epochs, recipe=recipe,
                execution=execution, seed=self._seed(candidate, cycle.stage + 100 * cycle.part), lr_scale=lr_scale,
                lesson=self.course if self._taught(cycle.stage) else None, should_stop=stop, progress=say,
                before_step=before_step,
            )  # fmt: skip
        return curve.epochs if stop is not None and stop() else cycle.epochs

    def _taught(self, stage: int) -> bool:
        """Whether a cycle of this number learns from the teachers."""
        return self.course is not None and (stage >= len(self.config.rungs) or self.config.distill_from == "start")

    def _execution(self, candidate: Candidate, net: nn.Module, batch_size: int, clock: Clock) -> Execution:
        """The form this candidate is trained in: measured once, kept on disk, so that a resumed training repeats."""
        path = self.folder.path / "checkpoints" / f"{candidate.key}-execution.json"
        if path.exists():
            kept = Execution(**json.loads(path.read_text()))
            is_here = kept.device == "cpu" or torch.cuda.is_available()
            if is_here and self.config.device in ("auto", kept.device):
                return kept
        with clock("choose execution"):
            chosen = choose_execution(
                net, input_shape=self.data.input_shape, batch_size=batch_size, device=self.config.device,
                threads=self.threads,
            )  # fmt: skip
        self.folder.write(f"checkpoints/{path.name}", json.dumps(asdict(chosen)))
        return chosen

    def _quick_accuracy(self, candidate: Candidate, net: nn.Module, clock: Clock) -> float:
        """Accuracy of the float net in torch, for promotion only."""
        with clock("score"):
            return self._torch_accuracy(net, self._execution(candidate, net, len(self.data.val), clock))

    def _torch_accuracy(self, net: nn.Module, execution: Execution) -> float:
        guessed = predict(net, self.data.val.images, execution=execution).argmax(1)
        return float((guessed == self.data.val.labels).mean())

    @property
    def _is_host(self) -> bool:
        """Whether this machine's runtime times the target."""
        return self.profile.local and self.board is None

    def _on_target(
        self, files: Sequence[ExportedFile], counted: Sequence[Costs], hosts: Sequence[Measurement]
    ) -> list[Measurement]:
        """The files' latencies on the target: this machine's, the board's, or predictions.

        Raises:
            MeasureError: the board gives no figure; the end of its log is kept beside the file.
        """
        if self.board is None:
            return list(hosts) if self.profile.local else [predict_latency(c, self.profile) for c in counted]
        energy = "energy" in self.config.objectives
        paths = [file.path for file in files]
        answers = measure_there(paths, self.board, self.profile, energy=energy, say=self.watch)
        latencies = []
        for path, found in zip(paths, answers, strict=True):
            if isinstance(found, MeasureError):
                if found.log:
                    self.folder.write(f"models/{path.stem}-board.log", "\n".join(found.log) + "\n")
                raise found
            latencies.append(replace(found, notes=(*found.notes, DRAFTED)))
        return latencies

    def _at_best(self, latency: Measurement) -> Measurement:
        """What a draft is held against limits with: where the board will have the last word, the lowest it may be."""
        return latency if self.board is None else replace(latency, latency_ms=latency.low_ms)

    def _hosts(self, paths: Sequence[Path], runs: int, attempts: int = ATTEMPTS) -> list[Measurement]:
        """Latencies on this machine; several files side by side, so that they can be compared."""
        device, shape = self.host.title, self.data.input_shape
        if len(paths) > 1:
            return measure_interleaved(paths, self.runtime, device=device, input_shape=shape, runs=runs)
        return [
            measure(path, self.runtime, device=device, input_shape=shape, runs=runs, attempts=attempts)
            for path in paths
        ]

    def _seed(self, candidate: Candidate, stage: int) -> int:
        """A seed that depends on the search's seed, the candidate and the stage, and on no order of evaluation."""
        text = f"{self.config.seed}/{candidate.key}/{stage}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

    def _checkpoint(self, candidate: Candidate, rung: int) -> Path:
        return self.folder.path / "checkpoints" / f"{candidate.key}-{rung}.pt"

    def save(self, candidate: Candidate, net: nn.Module, rung: int) -> None:
        """Keep the net as it is after a rung; the rung before it is forgotten."""
        path = self._checkpoint(candidate, rung)
        beside = path.with_suffix(f".{os.getpid()}")
        torch.save(net.state_dict(), beside)
        beside.replace(path)
        self._checkpoint(candidate, rung - 1).unlink(missing_ok=True)

    def blank(self, candidate: Candidate, trial: int, phase: Phase) -> Record:
        """A record without figures, which counts as failed."""
        worker = f"{platform.node()}/{os.getpid()}"
        taught = self.course if self._taught(len(self.config.rungs) if phase != "search" else 0) else None
        return Record(
            trial=trial, key=candidate.key, status="failed", phase=phase, candidate=candidate, worker=worker,
            teacher=taught.about if taught else "",
        )  # fmt: skip

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


def narrowing(candidate: Candidate, *, steps: int, channel_multiple: int) -> list[dict[str, int]]:
    """The widths after each pruning step: each keeps the same share of channels, on the grid; the last are `pruned`.

    Steps in which nothing would leave are left out, but for the last.
    """
    found: list[dict[str, int]] = []
    before = candidate.widths
    for step in range(1, steps):
        widths = {
            stage: _between(wide, candidate.pruned[stage], step / steps, channel_multiple)
            for stage, wide in candidate.widths.items()
        }
        if widths not in (before, candidate.pruned):
            found.append(widths)
            before = widths
    return [*found, candidate.pruned]


def _between(wide: int, slim: int, share: float, multiple: int) -> int:
    """A width on the grid at `share` of the way from `wide` to `slim`, in equal ratios."""
    return int(min(wide, max(slim, round(wide * (slim / wide) ** share / multiple) * multiple)))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
