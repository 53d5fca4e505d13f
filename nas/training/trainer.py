"""From a candidate to a trained net: fresh or given weights, rungs, pruning in steps, and what is kept of it.

A net that is to be reshaped learns in full first, then its channels leave in steps with training between. Every seed
depends on the search's seed, the candidate and the part of the training, so that a search that was killed repeats.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx, nn

from nas.candidate import Candidate
from nas.compression.base import Context
from nas.compression.pipeline import Compression
from nas.compression.pruning.schedule import narrowing
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.distillation.base import Course
from nas.distillation.teacher_gene import teacher_of
from nas.files import whole_file
from nas.results.phase_timer import Clock
from nas.results.run_folder import RunFolder
from nas.training.loop import Execution, choose_execution, predict, recipe_for, train
from search_spaces._base import SearchSpace

CALIBRATION_IMAGES = 256
DRAFT_IMAGES = 8
"""Calibrate an untrained file, whose accuracy nobody reads."""
PROBE_STEPS = 3
"""Training steps by which the time of an epoch is estimated."""
QAT_EXECUTION = Execution()
"""Quantised graphs are compared in plain float32: rounding to a grid must not be rounded again."""
QAT_LR_SCALE = 0.05
"""Share of the peak learning rate in quantised training, which starts from trained weights."""

Watch = Callable[[str], None]
Stop = Callable[[], bool]
"""Asked before each training step; True ends the training there."""


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


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Builds and trains the nets of candidates.

    Attributes:
        config: what was asked.
        folder: where checkpoints go.
        space: builds nets.
        compression: what is done to nets, and for which target.
        data: faces.
        course: what nets learn from teachers; None without any.
        start: what candidates begin with; None lets them begin with fresh weights.
        watch: told what is being done, in words.
        repeat: number of the training, where a candidate is trained several times: each has its own initialisation and
            its own order of faces.
    """

    config: SearchConfig
    folder: RunFolder
    space: SearchSpace
    compression: Compression
    data: FaceData
    course: Course | None = None
    start: Start | None = None
    watch: Watch = lambda _: None
    repeat: int = 0

    def build(self, candidate: Candidate, widths: Mapping[str, int]) -> nn.Module:
        """The candidate's net with fresh weights, in these widths; not restructured."""
        return self.space.build(
            candidate.architecture,
            input_shape=self.data.input_shape,
            classes=len(self.data.classes),
            widths=widths,
        )

    def shaped(self, candidate: Candidate) -> nn.Module:
        """The candidate's net in its final shape, with fresh weights."""
        context = replace(self.context(candidate, DRAFT_IMAGES), shapes_only=True)
        return self.compression.shape(self.build(candidate, candidate.pruned), context)

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
            return net, self.fit(candidate, net, cycle, clock, stop)
        torch.manual_seed(self.seed(candidate, -1))
        net = self.build(candidate, candidate.widths)
        if self.start is not None:
            net.load_state_dict(self.start.state)
        if not self.compression.reshapes(candidate):
            net = self.compression.shape(net, self.context(candidate, CALIBRATION_IMAGES))
            return net, self.fit(candidate, net, cycle, clock, stop)
        came, rest = 0.0, cycle.epochs
        if self.start is None:  # which weights matter is seen once they have learned something
            rest = cycle.epochs / 2
            before = replace(cycle, epochs=rest, what=f"{cycle.what}, before pruning")
            came = self.fit(candidate, net, before, clock, stop)
        multiple = self.compression.profile.channel_multiple
        steps = narrowing(candidate, steps=self.config.prune_steps, channel_multiple=multiple)
        for number, widths in enumerate(steps, start=1):
            net = self._narrowed(candidate, net, widths, last=number == len(steps), clock=clock)
            what = f"{cycle.what}, recovering" + (f" {number} of {len(steps)}" if len(steps) > 1 else "")
            part = replace(cycle, epochs=rest / len(steps), what=what, part=number)
            came += self.fit(candidate, net, part, clock, stop)
        return net, came

    def _narrowed(
        self, candidate: Candidate, net: nn.Module, widths: Mapping[str, int], *, last: bool, clock: Clock
    ) -> nn.Module:
        """The net with its most important channels; restructured when no more channels leave."""
        with clock("prune"):
            context = self.context(candidate, CALIBRATION_IMAGES)
            slim = self.build(candidate, widths)
            self.compression.prune(net, slim, context)
            return self.compression.shape(slim, context) if last else slim

    def resume(self, candidate: Candidate) -> tuple[nn.Module | None, int]:
        """The net as it was after the last rung that was finished, and that rung; (None, 0) before the first.

        A further training of the same candidate begins anew.
        """
        if self.repeat:
            return None, 0
        for rung in range(len(self.config.rungs), 0, -1):
            path = self._checkpoint(candidate, rung)
            if path.exists():
                net = self.shaped(candidate)
                net.load_state_dict(torch.load(path, weights_only=True))
                return net.eval(), rung
        return None, 0

    def save(self, candidate: Candidate, net: nn.Module, rung: int) -> None:
        """Keep the net as it is after a rung; the rung before it is forgotten."""
        with whole_file(self._checkpoint(candidate, rung)) as beside:
            torch.save(net.state_dict(), beside)
        self._checkpoint(candidate, rung - 1).unlink(missing_ok=True)

    def _checkpoint(self, candidate: Candidate, rung: int) -> Path:
        return self.folder.path / "checkpoints" / f"{candidate.key}-{rung}.pt"

    def fit(
        self,
        candidate: Candidate,
        net: nn.Module,
        cycle: Cycle,
        clock: Clock,
        stop: Callable[[], bool] | None,
        *,
        quantised: bool = False,
    ) -> float:
        """Train a net in place for one cycle, with leave to stop; the epochs it came."""
        recipe = recipe_for(sum(p.numel() for p in net.parameters()))
        execution = self._execution(candidate, net, recipe.batch_size, clock)
        lr_scale = QAT_LR_SCALE if quantised else cycle.lr_scale

        def say(epoch: float, loss: float) -> None:
            self.watch(f"{cycle.what}: epoch {epoch:.1f} of {cycle.epochs:.1f}, loss {loss:.2f}")

        context = self.context(candidate, CALIBRATION_IMAGES)
        with clock("train"), self.compression.training(net, context) as before_step:
            curve = train(
                net, self.data.train, classes=len(self.data.classes), epochs=cycle.epochs, recipe=recipe,
                execution=execution, seed=self.seed(candidate, cycle.stage + 100 * cycle.part), lr_scale=lr_scale,
                lesson=self.course_of(candidate, cycle.stage), should_stop=stop, progress=say,
                before_step=before_step,
            )  # fmt: skip
        return curve.epochs if stop is not None and stop() else cycle.epochs

    def course_of(self, candidate: Candidate, stage: int) -> Course | None:
        """What a candidate learns from teachers in a cycle of this number; None if nothing."""
        is_taught = stage >= len(self.config.rungs) or self.config.distill_from == "start"
        return self.course.chosen(teacher_of(candidate)) if self.course is not None and is_taught else None

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

    def epoch_seconds(self, candidate: Candidate, clock: Clock) -> float:
        """Seconds that an epoch of the candidate in full width takes, by a few steps; nothing learned is kept."""
        net = self.build(candidate, candidate.widths)
        recipe = recipe_for(sum(p.numel() for p in net.parameters()))
        execution = self._execution(candidate, net, recipe.batch_size, clock)
        batch = min(recipe.batch_size, len(self.data.train))
        for steps in (1, PROBE_STEPS):  # the first one warms up
            share = steps * batch / len(self.data.train)
            found = train(
                net, self.data.train, classes=len(self.data.classes), epochs=share, recipe=recipe, execution=execution,
                seed=0,
            )  # fmt: skip
        return found.seconds / share

    def quick_accuracy(self, candidate: Candidate, net: nn.Module, clock: Clock) -> float:
        """Accuracy of the float net in torch, for promotion only."""
        with clock("score"):
            return self.accuracy(net, self._execution(candidate, net, len(self.data.val), clock))

    def accuracy(self, net: nn.Module, execution: Execution) -> float:
        """Share of the selection split that a torch module gets right, 0..1."""
        guessed = predict(net, self.data.val.images, execution=execution).argmax(1)
        return float((guessed == self.data.val.labels).mean())

    def seed(self, candidate: Candidate, stage: int) -> int:
        """A seed that depends on the search's seed, the candidate, the stage and the training, on no order of work."""
        text = f"{self.config.seed}/{candidate.key}/{stage}" + (f"/{self.repeat}" if self.repeat else "")
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

    def cycle(self, what: str, stage: int, epochs: float, had: float) -> Cycle:
        """A schedule for a net that had some epochs, on top of those of the weights it began with."""
        return Cycle(what=what, stage=stage, epochs=epochs, had=had + (self.start.epochs if self.start else 0.0))

    def context(self, candidate: Candidate, images: int) -> Context:
        """With training images spread evenly over the set: never noise, never validation."""
        rows = np.linspace(0, len(self.data.train) - 1, min(images, len(self.data.train))).astype(int)
        return Context(
            candidate=candidate, profile=self.compression.profile, input_shape=self.data.input_shape,
            images=self.data.train.images[rows], labels=np.asarray(self.data.train.labels[rows], dtype=np.int64),
            seed=self.seed(candidate, -2), learned_steps=self.config.qat_steps == "learned",
        )  # fmt: skip

    def graph(self, candidate: Candidate, net: nn.Module, *, images: int, shapes_only: bool = False) -> fx.GraphModule:
        """The folded and compressed graph of a net, calibrated on so many training images.

        With `shapes_only` the net's weights are fresh, and all that counts is how large and how fast its file is.
        """
        return self.compression.graph(net, replace(self.context(candidate, images), shapes_only=shapes_only))

    @property
    def threads(self) -> int:
        """CPU threads for training and scoring."""
        return self.config.threads or os.cpu_count() or 1
