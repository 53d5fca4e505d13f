"""Parts of a training's step: averages of weights, batches of rows, and what decays."""

import numpy as np
import pytest
import torch
from torch import nn

from nas.training.recipe import OptimizerName, Recipe
from nas.training.training_run import _optimizer, _RowBatches, _WeightEma


def test_the_moving_average_against_a_loop() -> None:
    module = nn.BatchNorm1d(2)
    average = _WeightEma(module, decay=0.5)
    mean, steps = 1.0, np.random.default_rng(0).normal(size=30)
    for t, value in enumerate(steps, start=1):
        nn.init.constant_(module.weight, value)
        module.running_mean.fill_(value)  # type: ignore[union-attr]
        module.num_batches_tracked.fill_(t)  # type: ignore[union-attr]
        average.update()
        decay = min(0.5, (1 + t) / (10 + t))
        mean = decay * mean + (1 - decay) * value
    average.copy_to_net()
    assert module.weight.tolist() == pytest.approx([mean] * 2, rel=1e-5)
    assert module.bias.tolist() == [0, 0]
    assert int(module.num_batches_tracked) == 30  # type: ignore[arg-type]


def test_every_row_comes_once_in_a_pass() -> None:
    rows = _RowBatches(10, 4, torch.Generator().manual_seed(0))
    batches = [rows.next() for _ in range(10)]
    stream, passes = (torch.cat(parts).view(4, 10) for parts in zip(*batches, strict=True))
    assert torch.equal(passes, torch.arange(4)[:, None].expand(4, 10))
    assert torch.equal(stream.sort(1).values, torch.arange(10).expand(4, 10))
    assert not torch.equal(stream[0], stream[1])


def test_only_matrices_and_kernels_decay() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    words: tuple[OptimizerName, ...] = ("adamw", "sgd")
    for word in words:
        optimizer = _optimizer(net, Recipe(optimizer=word, weight_decay=0.3))
        for group in optimizer.param_groups:
            assert all((p.ndim > 1) == (group["weight_decay"] == 0.3) for p in group["params"])
