"""Random nets of every search space whose outputs really vary, and images that differ as faces do."""

import random
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nas import registry
from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.onnx_export.exporter import ExportedFile, export_onnx
from nas.onnx_export.folding import fold
from nas.targets.catalog import load_target
from search_spaces._base import Architecture, DisconnectedError, SearchSpace

SHAPE = (1, 32, 32)
CLASSES = ("angry", "happy", "sad", "neutral")
SPACES = registry.names("space")


def context_of(
    bits: dict[str, int] | None = None, *, signed: bool = False, images: int = 64, **fields: Any
) -> CompressionContext:
    """A compression context with these bit-widths, fields of the candidate, and labelled pictures."""
    pixels = pictures(images, seed=7) if images else np.empty((0, *SHAPE), np.uint8)
    blank: dict[str, Any] = {"space": "plain", "architecture": {}, "widths": {}, "pruned": {}}
    return CompressionContext(
        candidate=Candidate(**(blank | fields), bits=bits or {}),
        profile=replace(load_target("cpu"), activation_signed=signed),
        input_shape=SHAPE, images=pixels, labels=labels_of(pixels) if images else np.empty(0, np.int64),
    )  # fmt: skip


@dataclass(frozen=True)
class RandomNet:
    """A net with the architecture and the space that it was built from."""

    space: SearchSpace
    architecture: Architecture
    net: nn.Module

    @property
    def widths(self) -> dict[str, int]:
        return self.space.widths(self.architecture)

    @property
    def units(self) -> tuple[str, ...]:
        return ("stem", *self.widths, "head")

    def with_widths(self, widths: dict[str, int]) -> nn.Module:
        """Another net of the same architecture with these stage widths."""
        return build(self.space, self.architecture, widths)


def random_net(space_name: str, *, seed: int, **fixed: Any) -> RandomNet:
    """A small random net in eval mode; genes given by name are fixed."""
    space, picks = registry.load("space", space_name), random.Random(seed)
    while True:
        picked = {c.name: picks.choice(c.options) for c in space.choices(channel_multiple=8)}
        for gene in picked:
            if "width" in gene:
                picked[gene] = picks.choice((16, 24))
        small = {"input_size": 40, "stem_stride": 2, "cells": picks.choice((2, 3, 4))}
        picked |= {gene: value for gene, value in (small | fixed).items() if gene in picked}
        try:
            architecture = space.decode(picked)
            break
        except DisconnectedError:
            continue
    torch.manual_seed(seed)
    return RandomNet(space=space, architecture=architecture, net=build(space, architecture, None))


def build(
    space: SearchSpace, architecture: Architecture, widths: dict[str, int] | None, *, scaled: bool = True
) -> nn.Module:
    """A net in eval mode with running statistics of pictures; with `scaled`, each logit varies by about 1.5 (std)."""
    net = space.build(architecture, input_shape=SHAPE, classes=len(CLASSES), widths=widths).train()
    with torch.no_grad():
        for seed in range(6):
            net(torch.from_numpy(pictures(16, seed=seed)).float())
        net.eval()
        if not scaled:
            return net
        logits = net(torch.from_numpy(pictures(64, seed=20)).float())
        linear = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
        gain = 1.5 / logits.std(0)
        linear.weight.mul_(gain[:, None])
        linear.bias.sub_(logits.mean(0)).mul_(gain)
    return net


@cache
def trained_net(space_name: str, *, seed: int, **fixed: Any) -> RandomNet:
    """A random net trained for 25 steps to classify pictures by brightness and contrast."""
    sample = random_net(space_name, seed=seed, **({"cells": 2} | fixed))
    net = build(sample.space, sample.architecture, None, scaled=False).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(25):
        images = pictures(16, seed=1000 + step)
        loss = nn.functional.cross_entropy(net(torch.from_numpy(images).float()), torch.from_numpy(labels_of(images)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return RandomNet(space=sample.space, architecture=sample.architecture, net=net.eval())


def exported(net: nn.Module, folder: Path, **metadata: str) -> ExportedFile:
    """The exported file of a net, folded and not compressed."""
    graph = fold(net, input_shape=SHAPE)
    return export_onnx(graph, folder / "model.onnx", input_shape=SHAPE, classes=CLASSES, metadata=metadata)


def labels_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Labels [N] in 0..3: 2 where a picture is bright, plus 1 where its contrast is high."""
    return (2 * (images.mean((1, 2, 3)) > 125) + (images.std((1, 2, 3)) > 40)).astype(np.int64)


def pictures(count: int, *, seed: int, shape: tuple[int, int, int] = SHAPE) -> npt.NDArray[np.uint8]:
    """Coarse patches under fine noise, each picture with its own brightness and contrast, [count, *shape] uint8."""
    rng = np.random.default_rng(seed)
    c, h, w = shape
    patches = rng.normal(size=(count, c, h // 4, w // 4)).repeat(4, 2).repeat(4, 3)
    fine = rng.normal(size=(count, *shape))
    light, contrast, grain = (rng.uniform(*span, (count, 1, 1, 1)) for span in ((60, 190), (5, 70), (2, 30)))
    return (light + contrast * patches + grain * fine).clip(0, 255).astype(np.uint8)
