"""Training: one seeded one-cycle schedule over faces that lie in memory as uint8.

Leslie Smith's one cycle (https://arxiv.org/abs/1803.09820) in the form warm-up then cosine, and a moving average of
weights and batch-norm statistics whose decay warms up, so that it is of use even when a rung lasts half an epoch. There
is no loader and no worker: a batch is a row gather and a few vectorised changes, a few per cent of a step.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.data.base import Images, Split
from nas.distillation.base import Distillation
from nas.errors import ConfigError
from nas.models.seeding import forked_rng
from nas.training.augment import augment
from nas.training.execution import ExecutionFormat, on_device
from nas.training.learning_curve import LearningCurve, LearningCurveRecorder
from nas.training.recipe import Recipe

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
    on_progress: Callable[[float, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    before_step: Callable[[float], None] | None = None,
    on_phase_end: Callable[[str], None] | None = None,
) -> LearningCurve:
    """Train `net` in place for one whole schedule, from the weights it has.

    Afterwards the net holds the averaged weights and statistics, in eval mode, as contiguous fp32 on the CPU. The same
    seed, execution and machine give the same weights.

    Args:
        net: from images [N, C, H, W], 0..255, to logits [N, classes].
        split: faces to learn from.
        classes: how many logits.
        epochs: passes over the split; fractions are fine, at least one step is taken.
        recipe: how.
        execution: where and in which form.
        seed: of order, changes and mixing.
        lr_scale: factor on the recipe's learning rate, for a net that is already trained.
        soft_labels: learn the annotators' shares instead of one label.
        lesson: learn from teachers too, who have answered all images of the split; mixed images mix their answers.
        compiled: use torch.compile; pays on CUDA only.
        progress: told (epoch, loss) about twice a second.
        should_stop: asked before each step; True ends the training early.
        before_step: called before each step with the progress, 0..1 (compressors mask and round with it).
        phase: told a phase's name at its end, for benchmarks.

    Raises:
        TrainError: the loss is not finite.
        ConfigError: `epochs` is not positive, the split is empty, it has no soft labels where these are asked for, or
            the teachers have answered another number of faces.
        BuildError: the net has no maps that the lesson needs.
    """
    if not epochs > 0:
        raise ConfigError(f"epochs must be positive, but got {epochs}")
    targets = _soft_targets(split, classes, recipe.label_smoothing, use_soft_labels=soft_labels)
    begin = time.perf_counter()
    with ExitStack() as held:
        for block in (
            _torch_threads(execution.threads),
            forked_rng(seed, device=execution.device),  # for dropout
            on_device(net, execution),
        ):
            held.enter_context(block)
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
        held.callback(run.close)
        log = LearningCurveRecorder(images_per_epoch=len(split), on_progress=on_progress)
        total = max(1, round(epochs * len(split) / run.batch_size))
        for step in range(total):
            if should_stop is not None and should_stop():
                break
            if before_step is not None:
                before_step(step / total)
            rate = recipe.lr * lr_scale * one_cycle_factor((step + 1) / total, recipe.warmup_fraction)
            log.add(*run.step(rate, on_phase_end or _no_op), run.batch_size)
        log.close_point()
        run.ema.copy_to_net()
    seconds = time.perf_counter() - begin
    return LearningCurve(
        points=tuple(log.points), epochs=log.epoch, seconds=seconds, images_per_second=log.images_seen / seconds
    )


def predict(net: nn.Module, images: Images, *, execution: ExecutionFormat, batch_size: int = 512) -> Floats:
    """What the net says about faces: probabilities [N, K] float32, rows sum to 1.

    It runs in eval mode and fp32 whatever the execution's precision, and leaves the net in eval mode on the CPU.

    Args:
        net: from images [N, C, H, W], 0..255, to logits [N, K].
        images: [N, C, H, W] uint8, at least one.
        execution: its device, memory format and threads are used.
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
    """The learning rate's share of its peak: linear up to 1 at `warmup_fraction`, then a cosine down to 0; both in 0..1."""
    if progress < warmup_fraction:
        return progress / warmup_fraction
    return (
        0.5 * (1 + math.cos(math.pi * (progress - warmup_fraction) / (1 - warmup_fraction)))
        if warmup_fraction < 1
        else 1.0
    )


class _TrainingRun:
    """One training: what a step needs, on its device. `step` draws a batch, learns from it, and averages."""

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
        self.row_batches = _row_batches(len(images), self.batch_size, torch.Generator().manual_seed(seed))
        self.augmentation_rng = torch.Generator(execution.device).manual_seed(seed)
        self.mixup_rng = np.random.default_rng(seed)
        with execution.autocast():
            looked_at = _as_float_input(self.images[:2], execution)
            self.distillation_loss = (
                None if distillation is None else distillation.make_loss(net, looked_at, n_images=len(images))
            )
        self.net = net.train()
        self.forward = torch.compile(net) if compiled else net
        learner = net if self.distillation_loss is None else nn.ModuleList([net, self.distillation_loss])
        self.parameters = list(learner.parameters())
        self.optimizer = _optimizer(learner, recipe)
        self.ema = _WeightEma(net, recipe.ema_decay)

    def step(self, lr: float, on_phase_end: Callable[[str], None]) -> tuple[Tensor, Tensor]:
        """Learn from one batch at this learning rate; its mean loss and count of hits, scalars on the device."""
        rows = next(self.row_batches).to(self.execution.device)
        images, targets = self.images.index_select(0, rows).float(), self.targets.index_select(0, rows)
        taught = self.distillation_loss.gather(rows) if self.distillation_loss is not None else ()
        on_phase_end("gather")
        images = augment(images, self.recipe.augmentation, self.augmentation_rng)
        if self.recipe.mixup_alpha:
            share = float(self.mixup_rng.beta(self.recipe.mixup_alpha, self.recipe.mixup_alpha))
            images = torch.lerp(images.roll(1, 0), images, share)  # rows are in random order: the neighbour is random
            targets = torch.lerp(targets.roll(1, 0), targets, share)
            taught = tuple(torch.lerp(part.roll(1, 0), part, share) for part in taught)
        images = _as_float_input(images, self.execution)
        on_phase_end("augment")
        with self.execution.autocast():
            logits = self.forward(images)
        logits = logits.float()
        if self.distillation_loss is None:
            loss = -(targets * functional.log_softmax(logits, dim=1)).sum() / len(targets)
        else:
            loss = self.distillation_loss.loss(logits, targets, taught)
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
        hits = (logits.detach().argmax(1) == targets.argmax(1)).sum()
        on_phase_end("average")
        return loss.detach(), hits

    def close(self) -> None:
        """Let go of the net."""
        if self.distillation_loss is not None:
            self.distillation_loss.close()


class _WeightEma:
    """Moving average of a net's weights and floating statistics; other buffers (counters) are the net's own."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.n_updates = decay, 0
        self.tensors = [t.detach() for t in (*net.parameters(), *net.buffers()) if t.is_floating_point()]
        self.averages = [t.clone() for t in self.tensors]

    def update(self) -> None:
        self.n_updates += 1
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        torch._foreach_lerp_(self.averages, self.tensors, 1 - decay)

    def copy_to_net(self) -> None:
        torch._foreach_copy_(self.tensors, self.averages)


def _soft_targets(split: Split, num_classes: int, label_smoothing: float, *, use_soft_labels: bool) -> Tensor:
    """What the net shall say, [N, classes] float32, rows sum to 1."""
    if not len(split):
        raise ConfigError("the training split must hold at least one face, but it is empty")
    if use_soft_labels and split.soft_labels is None:
        raise ConfigError("soft labels must come with the data set, but it has none; leave soft labels off")
    if use_soft_labels:
        return torch.from_numpy(np.array(split.soft_labels, dtype=np.float32))
    hot = functional.one_hot(torch.from_numpy(np.array(split.labels)), num_classes).float()
    return hot * (1 - label_smoothing) + label_smoothing / num_classes


def _row_batches(n_rows: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of row numbers: one shuffled pass after the other, cut into equal pieces across their seams."""
    queue = torch.empty(0, dtype=torch.long)
    while True:
        while len(queue) < batch_size:
            queue = torch.cat([queue, torch.randperm(n_rows, generator=generator)])
        yield queue[:batch_size]
        queue = queue[batch_size:]


def _optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
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
