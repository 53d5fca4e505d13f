"""Training loop: one seeded one-cycle schedule over images that are in memory as uint8.

The learning rate follows Leslie Smith's one cycle (https://arxiv.org/abs/1803.09820), as a linear warm-up and a cosine.
The result is a moving average of weights and batch-norm statistics; its decay warms up, so that the average is useful
even where a rung lasts half an epoch. There is no data loader and no worker process: a batch is a gather of rows and a
few vectorised changes, which take a few per cent of a step.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.data.augment import augment
from nas.data.base import Images, Split
from nas.distillation.base import Distillation
from nas.errors import ConfigError, StepPausedError
from nas.models.seeding import forked_rng
from nas.training.cpu_kernels import keep_freed_memory
from nas.training.execution_format import ExecutionFormat, on_device
from nas.training.learning_curve import LearningCurve, LearningCurveRecorder
from nas.training.recipe import Recipe
from nas.training.training_state import TrainingState

Floats = npt.NDArray[np.float32]
_SGD_MOMENTUM = 0.9


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
    begin = time.perf_counter()
    with ExitStack() as stack:
        for block in (
            _torch_threads(execution.threads),
            forked_rng(seed, device=execution.device),  # for dropout
            on_device(net, execution),
            head_dropout(net, recipe.head_dropout),
        ):
            stack.enter_context(block)
        run = _TrainingRun(
            net,
            split.images,
            targets,
            recipe=recipe,
            execution=execution,
            seed=seed,
            compiled=compiled,
            distillation=distillation,
        )
        stack.callback(run.close)
        recorder = LearningCurveRecorder(images_per_epoch=len(split), on_progress=on_progress)
        total = max(1, round(epochs * len(split) / run.batch_size))
        identity = f"{total} steps, {len(split)} images, seed {seed}, lr {lr_scale:g}, {execution}, {recipe}"
        first_step, seconds_before = 0, 0.0
        if state is not None and (stored := state.read(identity)) is not None:
            run.load_state(stored["run"])
            recorder.load_state(stored["recorder"])
            first_step, seconds_before = stored["step"], stored["seconds"]

        def current_state(step: int) -> dict[str, Any]:
            seconds = seconds_before + time.perf_counter() - begin
            return {"step": step, "seconds": seconds, "run": run.state(), "recorder": recorder.state()}

        for step in range(first_step, total):
            if should_stop is not None and should_stop():
                break
            if state is not None and step > first_step and state.should_pause():
                state.write(identity, current_state(step))
                raise StepPausedError(f"epoch {recorder.epoch:.1f} of {epochs:.1f}")
            if before_step is not None:
                before_step(step / total)
            rate = recipe.lr * lr_scale * one_cycle_factor((step + 1) / total, recipe.warmup_fraction)
            recorder.add(*run.step(rate, on_phase_end or _no_op), run.batch_size)
        else:
            if state is not None and first_step < total:
                state.write_end(identity, current_state(total))
        recorder.close_point()
        run.ema.copy_to_net()
    seconds = seconds_before + time.perf_counter() - begin
    return LearningCurve(
        points=tuple(recorder.points),
        epochs=recorder.epoch,
        seconds=seconds,
        images_per_second=recorder.images_seen / seconds,
        seconds_before=seconds_before,
    )


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
            net(_as_float_input(torch.from_numpy(images[at : at + batch_size].copy()).to(execution.device), execution))
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


class _TrainingRun:
    """State of one training on its device. `step` draws a batch, updates the weights, and averages them."""

    def __init__(
        self,
        net: nn.Module,
        images: Images,
        targets: Tensor,
        *,
        recipe: Recipe,
        execution: ExecutionFormat,
        seed: int,
        compiled: bool,
        distillation: Distillation | None,
    ) -> None:
        self.recipe, self.execution = recipe, execution
        self.images = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(execution.device)
        self.targets = targets.to(execution.device)
        self.batch_size = min(recipe.batch_size, len(images))
        self.row_batches = _RowBatches(len(images), self.batch_size, torch.Generator().manual_seed(seed))
        self.augmentation_rng = torch.Generator(execution.device).manual_seed(seed)
        self.mixup_rng = np.random.default_rng(seed)
        with execution.autocast():
            sample = _as_float_input(self.images[:2], execution)
            self.distillation_loss = (
                None if distillation is None else distillation.make_loss(net, sample, n_images=len(images))
            )
        self.bank = None if distillation is None else distillation.ensemble.bank
        self.first_view = seed  # the passes of different trainings begin with different views
        self.net = net.train()
        self.forward = torch.compile(net) if compiled else net
        # A distillation loss may have weights of its own, such as projections of feature maps.
        self.trained = net if self.distillation_loss is None else nn.ModuleList([net, self.distillation_loss])
        self.parameters = list(self.trained.parameters())
        self.optimizer = _optimizer(self.trained, recipe)
        self.ema = _WeightEma(net, recipe.ema_decay)

    def step(self, lr: float, on_phase_end: Callable[[str], None]) -> tuple[Tensor, Tensor]:
        """Update the weights by one batch; mean loss and number of correct predictions, scalars on the device."""
        rows, passes = (numbers.to(self.execution.device) for numbers in self.row_batches.next())
        views = (passes + self.first_view) % self.bank.n_views if self.bank else torch.zeros_like(rows)
        images, targets = self.images.index_select(0, rows).float(), self.targets.index_select(0, rows)
        teacher_parts = self.distillation_loss.gather(rows, views) if self.distillation_loss is not None else ()
        on_phase_end("gather")
        if self.bank is None:
            images = augment(images, self.recipe.augmentation, self.augmentation_rng)
        else:
            images = self.bank.show(images, rows, views)
        if self.recipe.mixup_alpha:
            share = float(self.mixup_rng.beta(self.recipe.mixup_alpha, self.recipe.mixup_alpha))
            images = torch.lerp(images.roll(1, 0), images, share)  # rows are shuffled: a neighbour is a random image
            targets = torch.lerp(targets.roll(1, 0), targets, share)
            teacher_parts = tuple(torch.lerp(part.roll(1, 0), part, share) for part in teacher_parts)
        images = _as_float_input(images, self.execution)
        on_phase_end("augment")
        with self.execution.autocast():
            logits = self.forward(images)
        logits = logits.float()
        if self.distillation_loss is None:
            loss = -(targets * functional.log_softmax(logits, dim=1)).sum() / len(targets)
        else:
            loss = self.distillation_loss.loss(logits, targets, teacher_parts)
        on_phase_end("forward")
        loss.backward()  # type: ignore[no-untyped-call]
        on_phase_end("backward")
        nn.utils.clip_grad_norm_(self.parameters, self.recipe.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        on_phase_end("optimizer")
        self.ema.update()
        n_correct = (logits.detach().argmax(1) == targets.argmax(1)).sum()
        on_phase_end("average")
        return loss.detach(), n_correct

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on, as tensors, numbers and words."""
        return {
            "weights": self.trained.state_dict(), "optimizer": self.optimizer.state_dict(),
            "averages": self.ema.averages, "n_averaged": self.ema.n_updates, "rows": self.row_batches.state(),
            "augmentation": self.augmentation_rng.get_state(),
            "mixup": json.dumps(self.mixup_rng.bit_generator.state),
            "dropout": [torch.get_rng_state(), *self._cuda_rng_state()],
        }  # fmt: skip

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.trained.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.n_updates = state["n_averaged"]
        torch._foreach_copy_(self.ema.averages, list(state["averages"]))
        self.row_batches.load_state(state["rows"])
        self.augmentation_rng.set_state(state["augmentation"])
        self.mixup_rng.bit_generator.state = json.loads(state["mixup"])
        torch.set_rng_state(state["dropout"][0])
        for cuda_state in state["dropout"][1:]:
            torch.cuda.set_rng_state(cuda_state)

    def _cuda_rng_state(self) -> list[Tensor]:
        return [torch.cuda.get_rng_state()] if self.execution.device == "cuda" else []

    def close(self) -> None:
        """Remove the hooks that the distillation has put on the network."""
        if self.distillation_loss is not None:
            self.distillation_loss.close()


class _WeightEma:
    """Moving average of the floating-point weights and buffers of a network; counters and the like are left out."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.n_updates = decay, 0
        self.tensors = [t.detach() for t in (*net.parameters(), *net.buffers()) if t.is_floating_point()]
        self.averages = [t.clone() for t in self.tensors]

    def update(self) -> None:
        self.n_updates += 1
        # The decay rises from 2/11, so that the random initial weights are forgotten within a few steps.
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        torch._foreach_lerp_(self.averages, self.tensors, 1 - decay)

    def copy_to_net(self) -> None:
        torch._foreach_copy_(self.tensors, self.averages)


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


class _RowBatches:
    """Endless batches of row numbers: shuffled passes in a row, cut into batches of equal size across their borders."""

    def __init__(self, n_rows: int, batch_size: int, generator: torch.Generator) -> None:
        self._n_rows, self._batch_size, self._generator = n_rows, batch_size, generator
        self._queue = torch.empty(2, 0, dtype=torch.long)
        self._n_passes = 0

    def next(self) -> tuple[Tensor, Tensor]:
        """Row numbers [B], and the number of the pass of each, from 0."""
        while self._queue.shape[1] < self._batch_size:
            rows = torch.randperm(self._n_rows, generator=self._generator)
            self._queue = torch.cat([self._queue, torch.stack([rows, torch.full_like(rows, self._n_passes)])], dim=1)
            self._n_passes += 1
        batch, self._queue = self._queue[:, : self._batch_size], self._queue[:, self._batch_size :]
        return batch[0], batch[1]

    def state(self) -> dict[str, Any]:
        """The rows that are left of this pass, and the generator of the next ones."""
        return {"queue": self._queue.clone(), "passes": self._n_passes, "generator": self._generator.get_state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._queue, self._n_passes = state["queue"], state["passes"]
        self._generator.set_state(state["generator"])


@contextmanager
def head_dropout(net: nn.Module, probability: float) -> Iterator[None]:
    """Within the block, the input of the network's last linear layer loses elements at random in training.

    A network without a linear layer, or with a probability of 0, stays as it is.
    """
    heads = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not heads or not probability:
        yield
        return
    handle = heads[-1].register_forward_pre_hook(
        lambda head, inputs: (functional.dropout(inputs[0], probability, head.training), *inputs[1:])
    )
    try:
        yield
    finally:
        handle.remove()


def _optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    # Decay of biases and batch norm would shrink activations without regularising anything.
    weights = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=_SGD_MOMENTUM, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)


def _as_float_input(images: Tensor, execution: ExecutionFormat) -> Tensor:
    return images.to(torch.float32, memory_format=execution.torch_memory_format)


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
