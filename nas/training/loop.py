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
from nas.distillation.base import Course
from nas.errors import ConfigError
from nas.training.augment import augment
from nas.training.execution import Execution, choose_execution, placed
from nas.training.learning_curve import Curve, Log
from nas.training.recipe import Recipe, recipe_for

__all__ = ["Execution", "Recipe", "choose_execution", "predict", "recipe_for", "train"]

Floats = npt.NDArray[np.float32]
_MOMENTUM = 0.9


def train(
    net: nn.Module,
    split: Split,
    *,
    classes: int,
    epochs: float,
    recipe: Recipe,
    execution: Execution,
    seed: int,
    lr_scale: float = 1.0,
    soft_labels: bool = False,
    lesson: Course | None = None,
    compiled: bool = False,
    progress: Callable[[float, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    before_step: Callable[[float], None] | None = None,
    phase: Callable[[str], None] | None = None,
) -> Curve:
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
    targets = _targets(split, classes, recipe.label_smoothing, soft=soft_labels)
    begin = time.perf_counter()
    with ExitStack() as held:
        for block in (_threads(execution.threads), _seeded(execution.device, seed), placed(net, execution)):
            held.enter_context(block)
        run = _Run(
            net, split.images, targets, recipe=recipe, execution=execution, seed=seed, compiled=compiled, lesson=lesson
        )
        held.callback(run.close)
        log = Log(per_epoch=len(split), progress=progress)
        total = max(1, round(epochs * len(split) / run.batch))
        for step in range(total):
            if should_stop is not None and should_stop():
                break
            if before_step is not None:
                before_step(step / total)
            rate = recipe.lr * lr_scale * one_cycle((step + 1) / total, recipe.warmup)
            log.add(*run.step(rate, phase or _ignore), run.batch)
        log.close()
        run.average.store()
    seconds = time.perf_counter() - begin
    return Curve(points=tuple(log.points), epochs=log.epoch, seconds=seconds, images_per_second=log.images / seconds)


def predict(net: nn.Module, images: Images, *, execution: Execution, batch: int = 512) -> Floats:
    """What the net says about faces: probabilities [N, K] float32, rows sum to 1.

    It runs in eval mode and fp32 whatever the execution's precision, and leaves the net in eval mode on the CPU.

    Args:
        net: from images [N, C, H, W], 0..255, to logits [N, K].
        images: [N, C, H, W] uint8, at least one.
        execution: its device, memory format and threads are used.
        batch: images per step.
    """
    net.eval()
    with _threads(execution.threads), placed(net, replace(execution, precision="fp32")), torch.inference_mode():
        parts = [
            net(_pixels(torch.from_numpy(images[at : at + batch].copy()).to(execution.device), execution))
            .softmax(1)
            .cpu()
            for at in range(0, len(images), batch)
        ]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def one_cycle(progress: float, warmup: float) -> float:
    """The learning rate's share of its peak: linear up to 1 at `warmup`, then a cosine down to 0; both in 0..1."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) if warmup < 1 else 1.0


class _Run:
    """One training: what a step needs, on its device. `step` draws a batch, learns from it, and averages."""

    def __init__(
        self,
        net: nn.Module,
        images: Images,
        targets: Tensor,
        *,
        recipe: Recipe,
        execution: Execution,
        seed: int,
        compiled: bool,
        lesson: Course | None,
    ) -> None:
        self.recipe, self.execution = recipe, execution
        self.images = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(execution.device)
        self.targets = targets.to(execution.device)
        self.batch = min(recipe.batch_size, len(images))
        self.rows = _rows(len(images), self.batch, torch.Generator().manual_seed(seed))
        self.generator = torch.Generator(execution.device).manual_seed(seed)
        self.mixing = np.random.default_rng(seed)
        with execution.autocast():
            looked_at = _pixels(self.images[:2], execution)
            self.pupil = None if lesson is None else lesson.pupil(net, looked_at, faces=len(images))
        self.net = net.train()
        self.forward = torch.compile(net) if compiled else net
        learner = net if self.pupil is None else nn.ModuleList([net, self.pupil])
        self.parameters = list(learner.parameters())
        self.optimizer = _optimizer(learner, recipe)
        self.average = _Average(net, recipe.ema_decay)

    def step(self, rate: float, phase: Callable[[str], None]) -> tuple[Tensor, Tensor]:
        """Learn from one batch at this learning rate; its mean loss and count of hits, scalars on the device."""
        rows = next(self.rows).to(self.execution.device)
        images, targets = self.images.index_select(0, rows).float(), self.targets.index_select(0, rows)
        taught = self.pupil.gather(rows) if self.pupil is not None else ()
        phase("gather")
        images = augment(images, self.recipe.augmentation, self.generator)
        if self.recipe.mixup:
            share = float(self.mixing.beta(self.recipe.mixup, self.recipe.mixup))
            images = torch.lerp(images.roll(1, 0), images, share)  # rows are in random order: the neighbour is random
            targets = torch.lerp(targets.roll(1, 0), targets, share)
            taught = tuple(torch.lerp(part.roll(1, 0), part, share) for part in taught)
        images = _pixels(images, self.execution)
        phase("augment")
        with self.execution.autocast():
            logits = self.forward(images)
        logits = logits.float()
        if self.pupil is None:
            loss = -(targets * functional.log_softmax(logits, dim=1)).sum() / len(targets)
        else:
            loss = self.pupil.loss(logits, targets, taught)
        phase("forward")
        loss.backward()  # type: ignore[no-untyped-call]
        phase("backward")
        nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        phase("optimizer")
        self.average.update()
        hits = (logits.detach().argmax(1) == targets.argmax(1)).sum()
        phase("average")
        return loss.detach(), hits

    def close(self) -> None:
        """Let go of the net."""
        if self.pupil is not None:
            self.pupil.close()


class _Average:
    """Moving average of a net's weights and floating statistics; other buffers (counters) are the net's own."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.live = [t.detach() for t in (*net.parameters(), *net.buffers()) if t.is_floating_point()]
        self.mean = [t.clone() for t in self.live]

    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.mean, self.live, 1 - decay)

    def store(self) -> None:
        torch._foreach_copy_(self.live, self.mean)


def _targets(split: Split, classes: int, smoothing: float, *, soft: bool) -> Tensor:
    """What the net shall say, [N, classes] float32, rows sum to 1."""
    if not len(split):
        raise ConfigError("the training split must hold at least one face, but it is empty")
    if soft and split.soft_labels is None:
        raise ConfigError("soft labels must come with the data set, but it has none; leave soft labels off")
    if soft:
        return torch.from_numpy(np.array(split.soft_labels, dtype=np.float32))
    hot = functional.one_hot(torch.from_numpy(np.array(split.labels)), classes).float()
    return hot * (1 - smoothing) + smoothing / classes


def _rows(n: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of row numbers: one shuffled pass after the other, cut into equal pieces across their seams."""
    queue = torch.empty(0, dtype=torch.long)
    while True:
        while len(queue) < batch:
            queue = torch.cat([queue, torch.randperm(n, generator=generator)])
        yield queue[:batch]
        queue = queue[batch:]


def _optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    weights = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=_MOMENTUM, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)


def _pixels(images: Tensor, execution: Execution) -> Tensor:
    return images.to(torch.float32, memory_format=execution.torch_format)


@contextmanager
def _seeded(device: str, seed: int) -> Iterator[None]:
    """Seeds what a net draws by itself (dropout); the process's own random state comes back afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ignore(_: str) -> None:
    return None
