"""Training loop: one seeded one-cycle schedule over images that are in memory as uint8.

The learning rate follows Leslie Smith's one cycle (https://arxiv.org/abs/1803.09820), as a linear warm-up and a cosine.
The result is a moving average of weights and batch-norm statistics; its decay warms up, so that the average is useful
even where a rung lasts half an epoch. There is no data loader and no worker process: a batch is a gather of rows and a
few vectorised changes, which take a few per cent of a step.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.data.base import Images, Split
from nas.distillation.base import Distillation
from nas.errors import ConfigError, StepPausedError
from nas.models.seeding import forked_rng
from nas.training.branches import branched, statistics_images
from nas.training.cpu_kernels import keep_freed_memory
from nas.training.execution_format import ExecutionFormat, on_device
from nas.training.learning_curve import LearningCurve, LearningCurveRecorder
from nas.training.recipe import Recipe
from nas.training.training_run import TrainingRun, as_float_input, head_dropout
from nas.training.training_state import TrainingState

Floats = npt.NDArray[np.float32]


def train(
    net: nn.Module,
    split: Split,
    *,
    classes: int,
    epochs: float,
    recipe: Recipe,
    execution: ExecutionFormat,
    seed: int,
    lr_scale: float = 1.0,
    soft_labels: bool = False,
    distillation: Distillation | None = None,
    compiled: bool = False,
    state: TrainingState | None = None,
    on_progress: Callable[[float, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    before_step: Callable[[float], None] | None = None,
    on_phase_end: Callable[[str], None] | None = None,
) -> LearningCurve:
    """Train `net` in place for one whole schedule, from the weights that it has.

    Afterwards `net` holds the averaged weights and statistics, in eval mode, as contiguous FP32 on the CPU. The same
    seed, execution format and machine give the same weights.

    Args:
        net: from images [N, C, H, W], 0..255, to logits [N, classes].
        split: images and labels.
        classes: number of classes.
        epochs: passes over the split, with fractions; at least one step is taken.
        recipe: hyperparameters.
        execution: device, memory format, precision and threads.
        seed: of the order of the images, augmentation, mixup and dropout.
        lr_scale: factor on the recipe's learning rate, for a network that is already trained.
        soft_labels: train on the annotators' shares of each class instead of one label.
        distillation: distil from teachers too, whose outputs cover all images of the split. Mixup mixes them as well.
        compiled: use torch.compile, which is faster on CUDA only.
        state: where the training goes on from, and when it pauses; None trains in one go.
        on_progress: called with (epoch, loss) about twice a second.
        should_stop: called before each step; True ends the training early.
        before_step: called before each step with the progress, 0..1; compressors mask and round weights there.
        on_phase_end: called with the name of each part of a step at its end, for benchmarks.

    Returns:
        Loss and accuracy by epoch, and the epochs trained for.

    Raises:
        StepPausedError: `state` asked for a pause; `net` is then of no use.
        TrainError: the loss is not finite.
        ConfigError: `epochs` is not positive, the split is empty or has no soft labels though they are requested, or
            the outputs of the teachers are of another number of images.
        BuildError: the network lacks the feature maps that the distillation method needs.
    """
    if not epochs > 0:
        raise ConfigError(f"epochs must be positive, but got {epochs}")
    targets = _soft_targets(split, classes, recipe.label_smoothing, use_soft_labels=soft_labels)
    keep_freed_memory()
    clock = _Clock()
    with ExitStack() as stack:
        for block in (
            _torch_threads(execution.threads),
            forked_rng(seed, device=execution.device),  # for dropout, and for the weights of branches
            branched(net, statistics_images(split.images), enabled=recipe.branches),
            on_device(net, execution),
            head_dropout(net, recipe.head_dropout),
        ):
            stack.enter_context(block)
        run = TrainingRun(
            net, split.images, targets, recipe=recipe, execution=execution, seed=seed, compiled=compiled,
            distillation=distillation,
        )  # fmt: skip
        stack.callback(run.close)
        recorder = LearningCurveRecorder(images_per_epoch=len(split), on_progress=on_progress)
        total = max(1, round(epochs * len(split) / run.batch_size))
        identity = f"{total} steps, {len(split)} images, seed {seed}, lr {lr_scale:g}, {execution}, {recipe}"
        identity += "".join(f", {name}" for name in ("branches", "auxiliary_head") if getattr(recipe, name))
        identity += f", crops {recipe.augmentation.min_crop:g}" if recipe.augmentation.min_crop < 1 else ""
        first_step = 0 if state is None else _load_state(state, identity, run, recorder, clock)
        for step in range(first_step, total):
            if should_stop is not None and should_stop():
                break
            if state is not None and step > first_step and state.should_pause():
                state.write(identity, _state_at(step, run, recorder, clock))
                raise StepPausedError(f"epoch {recorder.epoch:.1f} of {epochs:.1f}")
            if before_step is not None:
                before_step(step / total)
            rate = recipe.lr * lr_scale * one_cycle_factor((step + 1) / total, recipe.warmup_fraction)
            recorder.add(*run.step(rate, on_phase_end or _no_op), run.batch_size)
        else:
            if state is not None and first_step < total:
                state.write_end(identity, _state_at(total, run, recorder, clock))
        recorder.close_point()
        run.ema.copy_to_net()
    seconds = clock.seconds
    return LearningCurve(
        points=tuple(recorder.points),
        epochs=recorder.epoch,
        seconds=seconds,
        images_per_second=recorder.images_seen / seconds,
        seconds_before=clock.seconds_before,
    )


class _Clock:
    """Seconds of a training, those before its state was stored included."""

    def __init__(self) -> None:
        self.seconds_before, self._begin = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self._begin


def _state_at(step: int, run: TrainingRun, recorder: LearningCurveRecorder, clock: _Clock) -> dict[str, Any]:
    return {"step": step, "seconds": clock.seconds, "run": run.state(), "recorder": recorder.state()}


def _load_state(
    state: TrainingState, identity: str, run: TrainingRun, recorder: LearningCurveRecorder, clock: _Clock
) -> int:
    """Go on where the stored state was taken; the next step, 0 without a state of this training."""
    stored = state.read(identity)
    if stored is None:
        return 0
    run.load_state(stored["run"])
    recorder.load_state(stored["recorder"])
    clock.seconds_before = stored["seconds"]
    return int(stored["step"])


def predict(net: nn.Module, images: Images, *, execution: ExecutionFormat, batch_size: int = 512) -> Floats:
    """Class probabilities [N, K] float32; rows sum to 1.

    The network runs in eval mode and FP32 whatever the precision of the execution format, and stays in eval mode on the
    CPU.

    Args:
        net: from images [N, C, H, W], 0..255, to logits [N, K].
        images: [N, C, H, W] uint8, at least one.
        execution: device, memory format and threads; its precision does not count.
        batch_size: images per step.
    """
    net.eval()
    with (
        _torch_threads(execution.threads),
        on_device(net, replace(execution, precision="fp32")),
        torch.inference_mode(),
    ):
        parts = [
            net(as_float_input(torch.from_numpy(images[at : at + batch_size].copy()).to(execution.device), execution))
            .softmax(1)
            .cpu()
            for at in range(0, len(images), batch_size)
        ]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def one_cycle_factor(progress: float, warmup_fraction: float) -> float:
    """Share of the peak learning rate, 0..1.

    Args:
        progress: share of the steps that are done, 0..1.
        warmup_fraction: progress at which a linear rise reaches 1; a cosine then falls to 0.
    """
    if progress < warmup_fraction:
        return progress / warmup_fraction
    return (
        0.5 * (1 + math.cos(math.pi * (progress - warmup_fraction) / (1 - warmup_fraction)))
        if warmup_fraction < 1
        else 1.0
    )


def _soft_targets(split: Split, num_classes: int, label_smoothing: float, *, use_soft_labels: bool) -> Tensor:
    """Target probabilities [N, classes] float32; rows sum to 1."""
    if not len(split):
        raise ConfigError(
            "the training split must hold at least one face, but it is empty; check the data set and its splits"
        )
    if use_soft_labels and split.soft_labels is None:
        raise ConfigError("soft labels must come with the data set, but it has none; leave soft labels off")
    if use_soft_labels:
        return torch.from_numpy(np.array(split.soft_labels, dtype=np.float32))
    hot = functional.one_hot(torch.from_numpy(np.array(split.labels)), num_classes).float()
    return hot * (1 - label_smoothing) + label_smoothing / num_classes


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _no_op(_: str) -> None:
    return None
