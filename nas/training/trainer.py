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
from nas.compression.base import CompressionContext
from nas.compression.pipeline import CompressionPipeline
from nas.compression.pruning.schedule import width_schedule
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.distillation.base import Distillation
from nas.distillation.teacher_gene import teacher_name
from nas.files import whole_file
from nas.results.phase_timer import PhaseTimer
from nas.results.run_folder import RunFolder
from nas.training.execution import ExecutionFormat, choose_execution
from nas.training.loop import predict, train
from nas.training.recipe import recipe_for
from search_spaces._base import SearchSpace

CALIBRATION_IMAGES = 256
UNTRAINED_CALIBRATION_IMAGES = 8
"""Calibrate an untrained file, whose accuracy nobody reads."""
PROBE_STEPS = 3
"""Training steps by which the time of an epoch is estimated."""
QAT_EXECUTION = ExecutionFormat()
"""Quantised graphs are compared in plain float32: rounding to a grid must not be rounded again."""
QAT_LR_SCALE = 0.05
"""Share of the peak learning rate in quantised training, which starts from trained weights."""

LogFunction = Callable[[str], None]
ShouldStop = Callable[[], bool]
"""Asked before each training step; True ends the training there."""


@dataclass(frozen=True, kw_only=True)
class TrainingPhase:
    """One schedule of training: its name, its number (for the seed), its epochs, and those the net had before.

    Where channels leave on the way, `part` counts its parts, so that none sees the same faces in the same order again.
    """

    name: str
    index: int
    epochs: float
    previous_epochs: float = 0.0
    pruning_step: int = 0

    @property
    def lr_scale(self) -> float:
        """Share of the full learning rate: a short cycle at the full rate undoes more than it has time to repair."""
        return min(1.0, max(0.2, self.epochs / (2 * self.previous_epochs))) if self.previous_epochs else 1.0


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """Trained weights of the space's one net in full width, that every candidate begins with, and their epochs."""

    state_dict: Mapping[str, Tensor]
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
    compression: CompressionPipeline
    data: FaceData
    distillation: Distillation | None = None
    initial_weights: InitialWeights | None = None
    log: LogFunction = lambda _: None
    seed_index: int = 0

    def build(self, candidate: Candidate, widths: Mapping[str, int]) -> nn.Module:
        """The candidate's net with fresh weights, in these widths; not restructured."""
        return self.space.build(
            candidate.architecture,
            input_shape=self.data.input_shape,
            classes=len(self.data.classes),
            widths=widths,
        )

    def build_final_shape(self, candidate: Candidate) -> nn.Module:
        """The candidate's net in its final shape, with fresh weights."""
        context = replace(self.compression_context(candidate, UNTRAINED_CALIBRATION_IMAGES), shapes_only=True)
        return self.compression.restructure(self.build(candidate, candidate.pruned), context)

    def train(
        self,
        candidate: Candidate,
        net: nn.Module | None,
        phase: TrainingPhase,
        phase_timer: PhaseTimer,
        should_stop: Callable[[], bool] | None = None,
    ) -> tuple[nn.Module, float]:
        """A net trained for one cycle, and the epochs it came.

        One that is to be reshaped learns in full for the first half if its weights are fresh, then its channels leave
        in steps, and it recovers after each.
        """
        if net is not None:
            return net, self.fit(candidate, net, phase, phase_timer, should_stop)
        torch.manual_seed(self.seed_for(candidate, -1))
        net = self.build(candidate, candidate.widths)
        if self.initial_weights is not None:
            net.load_state_dict(self.initial_weights.state_dict)
        if not self.compression.changes_shape(candidate):
            net = self.compression.restructure(net, self.compression_context(candidate, CALIBRATION_IMAGES))
            return net, self.fit(candidate, net, phase, phase_timer, should_stop)
        came, rest = 0.0, phase.epochs
        if self.initial_weights is None:  # which weights matter is seen once they have learned something
            rest = phase.epochs / 2
            before = replace(phase, epochs=rest, name=f"{phase.name}, before pruning")
            came = self.fit(candidate, net, before, phase_timer, should_stop)
        multiple = self.compression.profile.channel_multiple
        steps = width_schedule(candidate, n_steps=self.config.compression.prune_steps, channel_multiple=multiple)
        for number, widths in enumerate(steps, start=1):
            net = self._prune_to_widths(candidate, net, widths, is_last=number == len(steps), phase_timer=phase_timer)
            what = f"{phase.name}, recovering" + (f" {number} of {len(steps)}" if len(steps) > 1 else "")
            part = replace(phase, epochs=rest / len(steps), name=what, pruning_step=number)
            came += self.fit(candidate, net, part, phase_timer, should_stop)
        return net, came

    def _prune_to_widths(
        self, candidate: Candidate, net: nn.Module, widths: Mapping[str, int], *, is_last: bool, phase_timer: PhaseTimer
    ) -> nn.Module:
        """The net with its most important channels; restructured when no more channels leave."""
        with phase_timer("prune"):
            context = self.compression_context(candidate, CALIBRATION_IMAGES)
            slim = self.build(candidate, widths)
            self.compression.prune(net, slim, context)
            return self.compression.restructure(slim, context) if is_last else slim

    def load_checkpoint(self, candidate: Candidate) -> tuple[nn.Module | None, int]:
        """The net as it was after the last rung that was finished, and that rung; (None, 0) before the first.

        A further training of the same candidate begins anew.
        """
        if self.seed_index:
            return None, 0
        for rung in range(len(self.config.training.rungs), 0, -1):
            path = self._checkpoint_path(candidate, rung)
            if path.exists():
                net = self.build_final_shape(candidate)
                net.load_state_dict(torch.load(path, weights_only=True))
                return net.eval(), rung
        return None, 0

    def save_checkpoint(self, candidate: Candidate, net: nn.Module, rung: int) -> None:
        """Keep the net as it is after a rung; the rung before it is forgotten."""
        with whole_file(self._checkpoint_path(candidate, rung)) as beside:
            torch.save(net.state_dict(), beside)
        self._checkpoint_path(candidate, rung - 1).unlink(missing_ok=True)

    def _checkpoint_path(self, candidate: Candidate, rung: int) -> Path:
        return self.folder.path / "checkpoints" / f"{candidate.key}-{rung}.pt"

    def fit(
        self,
        candidate: Candidate,
        net: nn.Module,
        phase: TrainingPhase,
        phase_timer: PhaseTimer,
        should_stop: Callable[[], bool] | None,
        *,
        is_qat: bool = False,
    ) -> float:
        """Train a net in place for one cycle, with leave to stop; the epochs it came."""
        recipe = recipe_for(sum(p.numel() for p in net.parameters()))
        execution = self._execution_for(candidate, net, recipe.batch_size, phase_timer)
        lr_scale = QAT_LR_SCALE if is_qat else phase.lr_scale

        def say(epoch: float, loss: float) -> None:
            self.log(f"{phase.name}: epoch {epoch:.1f} of {phase.epochs:.1f}, loss {loss:.2f}")

        context = self.compression_context(candidate, CALIBRATION_IMAGES)
        with phase_timer("train"), self.compression.training(net, context) as before_step:
            curve = train(
                net, self.data.train, classes=len(self.data.classes), epochs=phase.epochs, recipe=recipe,
                execution=execution, seed=self.seed_for(candidate, phase.index + 100 * phase.pruning_step), lr_scale=lr_scale,
                distillation=self.distillation_for(candidate, phase.index), should_stop=should_stop, on_progress=say,
                before_step=before_step,
            )  # fmt: skip
        return curve.epochs if should_stop is not None and should_stop() else phase.epochs

    def distillation_for(self, candidate: Candidate, phase_index: int) -> Distillation | None:
        """What a candidate learns from teachers in a cycle of this number; None if nothing."""
        is_taught = (
            phase_index >= len(self.config.training.rungs) or self.config.distillation.distill_during == "search"
        )
        return (
            self.distillation.for_teacher(teacher_name(candidate))
            if self.distillation is not None and is_taught
            else None
        )

    def _execution_for(
        self, candidate: Candidate, net: nn.Module, batch_size: int, phase_timer: PhaseTimer
    ) -> ExecutionFormat:
        """The form this candidate is trained in: measured once, kept on disk, so that a resumed training repeats."""
        path = self.folder.path / "checkpoints" / f"{candidate.key}-execution.json"
        if path.exists():
            kept = ExecutionFormat(**json.loads(path.read_text()))
            is_here = kept.device == "cpu" or torch.cuda.is_available()
            if is_here and self.config.run.device in ("auto", kept.device):
                return kept
        with phase_timer("choose execution"):
            chosen = choose_execution(
                net, input_shape=self.data.input_shape, batch_size=batch_size, device=self.config.run.device,
                threads=self.threads,
            )  # fmt: skip
        self.folder.write(f"checkpoints/{path.name}", json.dumps(asdict(chosen)))
        return chosen

    def estimate_epoch_seconds(self, candidate: Candidate, phase_timer: PhaseTimer) -> float:
        """Seconds that an epoch of the candidate in full width takes, by a few steps; nothing learned is kept."""
        net = self.build(candidate, candidate.widths)
        recipe = recipe_for(sum(p.numel() for p in net.parameters()))
        execution = self._execution_for(candidate, net, recipe.batch_size, phase_timer)
        batch = min(recipe.batch_size, len(self.data.train))
        for steps in (1, PROBE_STEPS):  # the first one warms up
            share = steps * batch / len(self.data.train)
            found = train(
                net, self.data.train, classes=len(self.data.classes), epochs=share, recipe=recipe, execution=execution,
                seed=0,
            )  # fmt: skip
        return found.seconds / share

    def float_accuracy(self, candidate: Candidate, net: nn.Module, phase_timer: PhaseTimer) -> float:
        """Accuracy of the float net in torch, for promotion only."""
        with phase_timer("score"):
            return self.accuracy(net, self._execution_for(candidate, net, len(self.data.val), phase_timer))

    def accuracy(self, net: nn.Module, execution: ExecutionFormat) -> float:
        """Share of the selection split that a torch module gets right, 0..1."""
        guessed = predict(net, self.data.val.images, execution=execution).argmax(1)
        return float((guessed == self.data.val.labels).mean())

    def seed_for(self, candidate: Candidate, phase_index: int) -> int:
        """A seed that depends on the search's seed, the candidate, the stage and the training, on no order of work."""
        text = f"{self.config.run.seed}/{candidate.key}/{phase_index}" + (
            f"/{self.seed_index}" if self.seed_index else ""
        )
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

    def make_phase(self, name: str, index: int, epochs: float, previous_epochs: float) -> TrainingPhase:
        """A schedule for a net that had some epochs, on top of those of the weights it began with."""
        return TrainingPhase(
            name=name,
            index=index,
            epochs=epochs,
            previous_epochs=previous_epochs + (self.initial_weights.epochs if self.initial_weights else 0.0),
        )

    def compression_context(self, candidate: Candidate, n_images: int) -> CompressionContext:
        """With training images spread evenly over the set: never noise, never validation."""
        rows = self.data.train.evenly_spread_rows(n_images)
        return CompressionContext(
            candidate=candidate, profile=self.compression.profile, input_shape=self.data.input_shape,
            images=self.data.train.images[rows], labels=np.asarray(self.data.train.labels[rows], dtype=np.int64),
            seed=self.seed_for(candidate, -2), learn_scales=self.config.compression.qat_scales == "learned",
        )  # fmt: skip

    def compress_graph(
        self, candidate: Candidate, net: nn.Module, *, n_images: int, shapes_only: bool = False
    ) -> fx.GraphModule:
        """The folded and compressed graph of a net, calibrated on so many training images.

        With `shapes_only` the net's weights are fresh, and all that counts is how large and how fast its file is.
        """
        return self.compression.compress_graph(
            net, replace(self.compression_context(candidate, n_images), shapes_only=shapes_only)
        )

    @property
    def threads(self) -> int:
        """CPU threads for training and scoring."""
        return self.config.run.threads or os.cpu_count() or 1
