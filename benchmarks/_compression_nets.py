"""One net per family, trained once in FP32 and cached: the starting points of `compression.py`.

The dense and the residual chain are initial nets of the space `plain`. The others are published nets in small forms
(stems of stride 2, few channels), so that a CPU trains each in minutes.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas.data.base import FaceData
from nas.distillation.base import Distillation
from nas.models.user_model import UserModelSpace
from nas.registry import load
from nas.training.execution_format import ExecutionFormat, choose_execution
from nas.training.loop import train
from nas.training.recipe import recipe_for

NetBuilder = Callable[[FaceData], nn.Module]


@dataclass(frozen=True, kw_only=True)
class NetFamily:
    """A net to compress.

    Attributes:
        description: in words.
        build: data to the untrained net.
        epochs: of its training.
    """

    description: str
    build: NetBuilder
    epochs: float


def _initial_plain_net(kind: str) -> NetBuilder:
    def build(data: FaceData) -> nn.Module:
        space = load("space", "plain")
        seed = next(s for s in space.initial_configurations(channel_multiple=8) if s["stage2.block"] == kind)
        net: nn.Module = space.build(space.decode(seed), input_shape=data.input_shape, classes=len(data.classes))
        return net

    return build


def _published_net(word: str, **options: Any) -> NetBuilder:
    def build(data: FaceData) -> nn.Module:
        net: nn.Module = load("model", word).build(input_shape=data.input_shape, classes=len(data.classes), **options)
        return net

    return build


FAMILIES = {
    "plain": NetFamily(description="dense chain, 16-32-64-128", build=_initial_plain_net("dense"), epochs=12),
    "residual": NetFamily(description="residual chain, 16-32-64-128", build=_initial_plain_net("residual"), epochs=12),
    "xception": NetFamily(
        description="mini_XCEPTION at the faces' size", build=_published_net("mini_xception"), epochs=20
    ),
    "mobile": NetFamily(
        description="MobileNetV2 x0.35, stem stride 2, head 256",
        build=_published_net("mobilenet_v2", width=0.35, stem_stride=2, head_width=256),
        epochs=8,
    ),
    "darts": NetFamily(
        description="DARTS V2, 5 cells of 8, stem stride 2",
        build=_published_net("darts_v2", cells=5, width=8),
        epochs=6,
    ),
    "pib": NetFamily(
        description="PIBConv cells, 5 of 8, stem stride 2",
        build=_published_net("pib_darts", cells=5, width=8),
        epochs=3,
    ),
}


class TrainedNet:
    """A family's net with its weights, execution format and training recipe.

    Args:
        name: of the family.
        data: faces.
        epoch_scale: factor on all epochs.
        cache_dir: folder of weights and execution formats.
        log: receives a line about each training.
    """

    def __init__(
        self, name: str, data: FaceData, *, epoch_scale: float, cache_dir: Path, log: Callable[[str], None]
    ) -> None:
        self.name, self.data, self._log = name, data, log
        family = FAMILIES[name]
        self.epochs = family.epochs * epoch_scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = family.build(data)
        self.digest = settings_digest(
            {"net": name, "what": family.description, "epochs": self.epochs, "data": data.digest}
        )
        self.recipe = recipe_for(sum(p.numel() for p in self.net.parameters()))
        self._cache, self._path = cache_dir, cache_dir / f"{name}-{self.digest}.pt"
        self.execution = self._choose_execution()

    @property
    def is_trained(self) -> bool:
        """Whether trained weights are in the cache."""
        return self._path.exists()

    def load_or_train(self) -> "TrainedNet":
        """Itself with trained weights, from the cache or after training."""
        if not self.is_trained:
            self.train(self.net, epochs=self.epochs, lr_scale=1.0)
            temporary = self._path.with_suffix(f".{os.getpid()}")
            torch.save(self.net.state_dict(), temporary)
            temporary.replace(self._path)
        self.net.load_state_dict(torch.load(self._path, weights_only=True))
        self.net.eval()
        return self

    def as_space(self, *, channel_multiple: int) -> UserModelSpace:
        """The trained net as a space, whose stages can be built narrower."""
        shape = self.data.input_shape
        return UserModelSpace(self.name, self.net, input_shape=shape, channel_multiple=channel_multiple)

    def train(
        self,
        net: nn.Module,
        *,
        epochs: float,
        lr_scale: float,
        seed: int = 0,
        force_fp32: bool = False,
        distillation: Distillation | None = None,
        before_step: Callable[[float], None] | None = None,
    ) -> None:
        """Train a variant of the net in place.

        Args:
            net: to be trained.
            epochs: passes over the training faces.
            lr_scale: factor on the recipe's learning rate.
            seed: of the batches' order and the augmentation.
            force_fp32: train in FP32 whatever the chosen execution format is.
            distillation: method and teachers, None to train on labels alone.
            before_step: called before each step with the progress 0..1.
        """
        begin = time.perf_counter()
        curve = train(
            net, self.data.train, classes=len(self.data.classes), epochs=epochs, recipe=self.recipe,
            execution=replace(self.execution, precision="fp32") if force_fp32 else self.execution,
            seed=seed, lr_scale=lr_scale, distillation=distillation, before_step=before_step,
        )  # fmt: skip
        minutes = (time.perf_counter() - begin) / 60
        self._log(f"{self.name}: {epochs:.1f} epochs in {minutes:.1f} min, {curve.images_per_second:.0f} faces/s")

    def _choose_execution(self) -> ExecutionFormat:
        """The fastest execution format, measured once and cached, so that a resumed benchmark uses the same."""
        path = self._cache / f"{self.name}-execution.json"
        if path.exists():
            return ExecutionFormat(**json.loads(path.read_text()))
        chosen = choose_execution(
            self.net, input_shape=self.data.input_shape, batch_size=self.recipe.batch_size,
            device="auto" if torch.cuda.is_available() else "cpu", threads=torch.get_num_threads(),
        )  # fmt: skip
        write_atomic(path, json.dumps(chosen.__dict__))
        return chosen


def evenly_spaced_rows(data: FaceData, n_rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Indices [n] of training faces, spread evenly over the split."""
    return np.linspace(0, len(data.train) - 1, min(n_rows, len(data.train))).astype(np.int64)


def settings_digest(settings: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that identify these settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def write_atomic(path: Path, text: str) -> None:
    """Write a file that appears only once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
