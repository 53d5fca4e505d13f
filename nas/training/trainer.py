"""Trainer of candidates: training phases, pruning in steps between them, and quantisation-aware training.

A candidate that is to be pruned first trains at full width; then its channels are removed in steps, with training after
each. Which weights matter can be told only from a network that has trained.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from nas.candidate import Candidate
from nas.compression.pruning.schedule import width_schedule
from nas.config import CompressionFields, DistillationFields, RunFields, TrainingFields
from nas.data.augment import MIN_CROP
from nas.data.base import FaceData
from nas.distillation.base import Distillation
from nas.distillation.teacher_gene import teacher_name
from nas.models.seeding import forked_rng
from nas.results.phase_timer import PhaseTimer
from nas.results.throughput import format_duration
from nas.training.checkpoints import Checkpoints
from nas.training.execution_format import ExecutionFormat, choose_execution
from nas.training.loop import predict, train
from nas.training.model_builder import CALIBRATION_IMAGES, INITIALISATION, ModelBuilder
from nas.training.recipe import Recipe, recipe_for
from nas.training.training_state import TrainingState

PROBE_STEPS = 3
"""Training steps that estimate the seconds of an epoch."""
QAT_EXECUTION = ExecutionFormat()
"""Execution format that scores fake-quantised graphs: plain FP32, because bfloat16 would round a second time."""
QAT_LR_SCALE = 0.05
"""Share of the peak learning rate in quantisation-aware training, which starts from trained weights."""
MIN_LR_SCALE = 0.2
"""Smallest share of the peak learning rate in a further phase."""
PRUNING_STEP_STRIDE = 100
"""Distance between the seeds' phase numbers of two pruning steps; searches have far fewer rungs."""

LogFunction = Callable[[str], None]
ShouldStop = Callable[[], bool]
"""Called before each training step; True ends the training there."""


def never() -> bool:
    """Do not pause."""
    return False


@dataclass(frozen=True, kw_only=True)
class TrainingPhase:
    """One learning-rate schedule.

    Attributes:
        name: for the log.
        index: number of the phase, for the seed.
        epochs: passes over the training split.
        previous_epochs: epochs that the weights have trained for already.
        pruning_step: number of the step that precedes the phase, from 1, or 0; each has its own order of images.
    """

    name: str
    index: int
    epochs: float
    previous_epochs: float = 0.0
    pruning_step: int = 0

    @property
    def lr_scale(self) -> float:
        """Share of the full learning rate, 0.2..1: a short phase at the full rate undoes more than it can repair."""
        if not self.previous_epochs:
            return 1.0
        return min(1.0, max(MIN_LR_SCALE, self.epochs / (2 * self.previous_epochs)))


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """Trained weights of the space's only network at full width, from which every candidate starts.

    Attributes:
        state_dict: of the network.
        epochs: that they were trained for.
    """

    state_dict: Mapping[str, Tensor]
    epochs: float


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Trains the networks of candidates.

    Attributes:
        training_config: rungs.
        compression_config: number of pruning steps.
        distillation_config: from which phase on networks are distilled.
        run_config: device and threads.
        builder: builds the networks.
        checkpoints: remember the execution format of each candidate.
        data: training and selection split.
        distillation: loss and teachers; None without teachers.
        initial_weights: weights that every candidate starts from; None starts from fresh ones.
        log: receives one line of text about the progress.
        should_pause: called before each training step; True ends it with `StepPausedError`, to be gone on with.
    """

    training_config: TrainingFields
    compression_config: CompressionFields
    distillation_config: DistillationFields
    run_config: RunFields
    builder: ModelBuilder
    checkpoints: Checkpoints
    data: FaceData
    distillation: Distillation | None = None
    initial_weights: InitialWeights | None = None
    log: LogFunction = lambda _: None
    should_pause: Callable[[], bool] = never

    def train(
        self,
        candidate: Candidate,
        net: nn.Module | None,
        phase: TrainingPhase,
        phase_timer: PhaseTimer,
        should_stop: ShouldStop | None = None,
    ) -> tuple[nn.Module, float]:
        """Train a candidate for one phase.

        Args:
            candidate: which one.
            net: in its final shape, trained further in place; None builds it, and prunes it within this phase.
            phase: schedule.
            phase_timer: adds up the seconds.
            should_stop: called before each training step; True ends the phase there.

        Returns:
            The network in its final shape, in eval mode on the CPU, and the epochs that it trained for.

        Raises:
            StepPausedError: `should_pause` asked for it; the same call goes on.
            TrainError: the loss is not finite.
        """
        if net is not None:
            return net, self.fit(candidate, net, phase, phase_timer, should_stop)
        # One block for all: layers that pruning builds later take their fresh weights from the same sequence.
        with forked_rng(self.builder.seed_for(candidate, INITIALISATION)):
            net = self.builder.build(candidate, candidate.widths)
            if self.initial_weights is not None:
                net.load_state_dict(self.initial_weights.state_dict)
            if self.builder.compression.changes_shape(candidate):
                return self._train_and_prune(candidate, net, phase, phase_timer, should_stop)
            context = self.builder.compression_context(candidate, CALIBRATION_IMAGES)
            net = self.builder.compression.restructure(net, context)
            return net, self.fit(candidate, net, phase, phase_timer, should_stop)

    def _train_and_prune(
        self,
        candidate: Candidate,
        net: nn.Module,
        phase: TrainingPhase,
        phase_timer: PhaseTimer,
        should_stop: ShouldStop | None,
    ) -> tuple[nn.Module, float]:
        """Train at full width for half of the phase if the weights are fresh; the pruning steps share the rest."""
        trained_epochs, remaining = 0.0, phase.epochs
        if self.initial_weights is None:
            remaining = phase.epochs / 2
            wide = replace(phase, epochs=remaining, name=f"{phase.name}, before pruning")
            trained_epochs = self.fit(candidate, net, wide, phase_timer, should_stop)
        steps = width_schedule(
            candidate,
            n_steps=self.compression_config.prune_steps,
            channel_multiple=self.builder.compression.profile.channel_multiple,
        )
        for number, widths in enumerate(steps, start=1):
            with phase_timer("prune"):
                net = self.builder.narrow(candidate, net, widths, is_final=number == len(steps))
            name = f"{phase.name}, after pruning" + (f" {number} of {len(steps)}" if len(steps) > 1 else "")
            part = replace(phase, epochs=remaining / len(steps), name=name, pruning_step=number)
            trained_epochs += self.fit(candidate, net, part, phase_timer, should_stop)
        return net, trained_epochs

    def fit(
        self,
        candidate: Candidate,
        net: nn.Module,
        phase: TrainingPhase,
        phase_timer: PhaseTimer,
        should_stop: ShouldStop | None,
        *,
        lr_scale: float | None = None,
    ) -> float:
        """Train a network in place for one phase, without changing its shape.

        Args:
            candidate: whose network it is.
            net: in eval mode on the CPU, before and after.
            phase: schedule.
            phase_timer: adds up the seconds.
            should_stop: called before each training step; True ends the phase there.
            lr_scale: share of the full learning rate; None takes the phase's own.

        Returns:
            The epochs that it trained for: those of the phase, unless it was stopped.

        Raises:
            TrainError: the loss is not finite.
        """
        distillation = self.distillation_for(candidate, phase.index)
        n_params = sum(p.numel() for p in net.parameters())
        recipe = recipe_for(
            n_params, epochs=phase.epochs + phase.previous_epochs, is_distilled=distillation is not None
        )
        recipe = self._with_options(recipe, candidate, is_quantized=lr_scale is not None)
        execution = self._execution_for(candidate, net, recipe.batch_size, phase_timer)
        state_path = self.checkpoints.state_path(candidate, phase.index, phase.pruning_step)

        first: list[tuple[float, float]] = []

        def log_progress(epoch: float, loss: float) -> None:
            first.append((epoch, time.monotonic()))
            rate = (epoch - first[0][0]) / max(first[-1][1] - first[0][1], 1e-9)
            left = f", {format_duration((phase.epochs - epoch) / rate)} left" if rate else ""
            self.log(f"{phase.name}: epoch {epoch:.1f} of {phase.epochs:.1f}, loss {loss:.2f}{left}")
            del first[1:]

        context = self.builder.compression_context(candidate, CALIBRATION_IMAGES)
        with phase_timer("train"), self.builder.compression.training(net, context) as before_step:
            curve = train(
                net, self.data.train, classes=len(self.data.classes), epochs=phase.epochs, recipe=recipe,
                execution=execution,
                seed=self.builder.seed_for(candidate, phase.index + PRUNING_STEP_STRIDE * phase.pruning_step),
                lr_scale=phase.lr_scale if lr_scale is None else lr_scale,
                distillation=distillation, should_stop=should_stop, on_progress=log_progress, before_step=before_step,
                state=TrainingState(path=state_path, should_pause=self.should_pause),
            )  # fmt: skip
        phase_timer.add("train", curve.seconds_before)
        return curve.epochs if should_stop is not None and should_stop() else phase.epochs

    def _with_options(self, recipe: Recipe, candidate: Candidate, *, is_quantized: bool) -> Recipe:
        """The recipe with what the configuration adds; a quantised graph is too close to its end for a second head."""
        config = self.training_config
        if config.crops:
            recipe = replace(recipe, augmentation=replace(recipe.augmentation, min_crop=MIN_CROP))
        shapes_weights = self.builder.compression.shapes_weights(candidate)
        return replace(
            recipe,
            branches=config.branches and not is_quantized and not shapes_weights,
            auxiliary_head=config.auxiliary_head and not is_quantized,
        )

    def fit_quantized(
        self,
        candidate: Candidate,
        net: nn.Module,
        epochs: float,
        phase_timer: PhaseTimer,
        should_stop: ShouldStop | None,
    ) -> None:
        """Quantisation-aware training of a fake-quantised graph, in place; arguments as of `fit`."""
        phase = TrainingPhase(
            name="quantisation-aware training", index=len(self.training_config.rungs) + 1, epochs=epochs
        )
        self.fit(candidate, net, phase, phase_timer, should_stop, lr_scale=QAT_LR_SCALE)

    def make_phase(self, name: str, index: int, epochs: float, previous_epochs: float) -> TrainingPhase:
        """A phase after `previous_epochs` of this run; those of the initial weights are added to them."""
        initial = self.initial_weights.epochs if self.initial_weights else 0.0
        return TrainingPhase(name=name, index=index, epochs=epochs, previous_epochs=previous_epochs + initial)

    def distillation_for(self, candidate: Candidate, phase_index: int) -> Distillation | None:
        """The distillation of a candidate in the phase of this number; None where it trains on labels alone."""
        is_distilled = (
            phase_index >= len(self.training_config.rungs) or self.distillation_config.distill_during == "search"
        )
        if self.distillation is None or not is_distilled:
            return None
        return self.distillation.for_teacher(teacher_name(candidate))

    def float_accuracy(self, candidate: Candidate, net: nn.Module, phase_timer: PhaseTimer) -> float:
        """Accuracy of the unquantised network in torch on the selection split, 0..1, for promotion only."""
        with phase_timer("score"):
            return self.accuracy(net, self._execution_for(candidate, net, len(self.data.val), phase_timer))

    def accuracy(self, net: nn.Module, execution: ExecutionFormat = QAT_EXECUTION) -> float:
        """Top-1 accuracy of a torch module on the selection split, 0..1."""
        predicted = predict(net, self.data.val.images, execution=execution).argmax(1)
        return float((predicted == self.data.val.labels).mean())

    def estimate_epoch_seconds(self, candidate: Candidate, phase_timer: PhaseTimer) -> float:
        """Seconds of an epoch at full width, from a few training steps of a network that is thrown away."""
        with forked_rng(0):
            net = self.builder.build(candidate, candidate.widths)
            recipe = recipe_for(sum(p.numel() for p in net.parameters()))
            execution = self._execution_for(candidate, net, recipe.batch_size, phase_timer)
        batch_size = min(recipe.batch_size, len(self.data.train))
        for steps in (1, PROBE_STEPS):  # the first call warms up: allocations and oneDNN's choice of kernels
            epochs = steps * batch_size / len(self.data.train)
            curve = train(
                net, self.data.train, classes=len(self.data.classes), epochs=epochs, recipe=recipe,
                execution=execution, seed=0,
            )  # fmt: skip
        return curve.seconds / epochs

    def _execution_for(
        self, candidate: Candidate, net: nn.Module, batch_size: int, phase_timer: PhaseTimer
    ) -> ExecutionFormat:
        """The candidate's execution format: timed once and saved, so that a resumed training rounds in the same way."""
        if (saved := self.checkpoints.load_execution(candidate, device=self.run_config.device)) is not None:
            return saved
        if self.run_config.execution == "plain":
            return ExecutionFormat()
        with phase_timer("choose execution"):
            chosen = choose_execution(
                net, input_shape=self.data.input_shape, batch_size=batch_size, device=self.run_config.device,
                threads=self.threads,
            )  # fmt: skip
        self.checkpoints.save_execution(candidate, chosen)
        return chosen

    @property
    def threads(self) -> int:
        """CPU threads for training and scoring."""
        return self.run_config.worker_threads
