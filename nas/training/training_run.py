"""One training on its device: a step draws a batch, updates the weights and averages them.

A batch is a gather of rows of images that are in memory as uint8 and a few vectorised changes. All that the next steps
depend on can be taken out as a state and put back.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.data.augment import augment
from nas.data.base import Images
from nas.distillation.base import Distillation
from nas.training.auxiliary_head import AUXILIARY_WEIGHT, AuxiliaryHead
from nas.training.execution_format import ExecutionFormat
from nas.training.recipe import Recipe

_SGD_MOMENTUM = 0.9


class TrainingRun:
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
            sample = as_float_input(self.images[:2], execution)
            self.distillation_loss = (
                None if distillation is None else distillation.make_loss(net, sample, n_images=len(images))
            )
            self.auxiliary_head = None
            if recipe.auxiliary_head:
                self.auxiliary_head = AuxiliaryHead(net.eval(), sample, classes=targets.shape[1])
        self.bank = None if distillation is None else distillation.ensemble.bank
        self.first_view = seed  # the passes of different trainings begin with different views
        self.net = net.train()
        self.forward = torch.compile(net) if compiled else net
        # A distillation loss may have weights of its own, such as projections of feature maps.
        beside = [module for module in (self.distillation_loss, self.auxiliary_head) if module is not None]
        self.trained = nn.ModuleList([net, *beside]) if beside else net
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
        images = as_float_input(images, self.execution)
        on_phase_end("augment")
        with self.execution.autocast():
            logits = self.forward(images)
        logits = logits.float()
        if self.distillation_loss is None:
            loss = -(targets * functional.log_softmax(logits, dim=1)).sum() / len(targets)
        else:
            loss = self.distillation_loss.loss(logits, targets, teacher_parts)
        if self.auxiliary_head is not None:
            probabilities = teacher_parts[0] if teacher_parts else targets
            loss = torch.lerp(loss, self.auxiliary_head.loss(probabilities), AUXILIARY_WEIGHT)
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
        """Remove the hooks that the distillation and the auxiliary head have put on the network."""
        for part in (self.distillation_loss, self.auxiliary_head):
            if part is not None:
                part.close()


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


def as_float_input(images: Tensor, execution: ExecutionFormat) -> Tensor:
    """The images [N, C, H, W] as float32 in the memory format of the execution."""
    return images.to(torch.float32, memory_format=execution.torch_memory_format)
