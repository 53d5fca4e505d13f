"""Channel scores of NNI's pruners, captured where each pruner turns them into masks.

Each pruner runs on a copy of the net by its own `compress`; its metrics are recorded when it passes them to its mask
generator. The pruners that train (Taylor, AGP, Slim) get the images of the context through NNI's own evaluator.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nas.compression.base import CompressionContext
from nas.compression.nni import adapter
from nas.compression.pruning.criterion import ChannelScores
from nas.errors import BuildError

BATCH_SIZE = 32
NOMINAL_SPARSITY = 0.5
"""NNI requires a sparsity; the captured scores do not depend on it."""
AGP_SPARSITY = 0.9
AGP_ITERATIONS = 8
AGP_INTERVAL_STEPS = 2
"""Training steps between two of AGP's masks."""
AGP_LR = 0.01
SLIM_STEPS = 8
SLIM_PENALTY = 1e-2


def norm_scores(net: nn.Module, layers: Sequence[str], *, pruner: str) -> ChannelScores:
    """The metric of one of NNI's pruners that use weights only.

    Args:
        net: is not changed.
        layers: names of convolutions and linear layers.
        pruner: a class of nni.compression.pruning: "L1NormPruner", "L2NormPruner" or "FPGMPruner".

    Returns:
        Layer to scores [output channels]; higher is more important.

    Raises:
        MissingPackageError: nni is not installed.
    """
    probe = copy.deepcopy(net)
    nni_pruner = getattr(adapter.import_pruning(), pruner)(probe, _nni_config(layers, NOMINAL_SPARSITY))
    return _last_metrics(_run_and_capture(nni_pruner))


def taylor_scores(net: nn.Module, layers: Sequence[str], context: CompressionContext) -> ChannelScores:
    """Sum over a channel's weights of the mean squared product of weight and gradient (Molchanov et al. 2019).

    The weights do not move: the learning rate is 0.

    Args:
        net: is not changed; it runs in eval mode.
        layers: names of convolutions and linear layers.
        context: with labelled images.

    Raises:
        BuildError: there are no images.
        MissingPackageError: nni is not installed.
    """
    probe = copy.deepcopy(net).eval()
    evaluator, steps = _make_evaluator(probe, context, lr=0.0), _n_batches(len(context.images))
    config = _nni_config(layers, NOMINAL_SPARSITY)
    nni_pruner = adapter.import_pruning().TaylorPruner(probe, config, evaluator, training_steps=steps)
    return _last_metrics(_run_and_capture(nni_pruner))


def agp_scores(net: nn.Module, layers: Sequence[str], context: CompressionContext) -> ChannelScores:
    """Number of AGP's masks that a channel survives, plus its share of the layer's L1 norm, which breaks ties.

    AGP (Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878) is a schedule, not a metric: the masks of its L1 pruner
    grow in steps, with training between them. Arguments as in `taylor_scores`.

    Raises:
        BuildError: there are no images.
        MissingPackageError: nni is not installed.
    """
    pruning, probe = adapter.import_pruning(), copy.deepcopy(net).eval()
    evaluator = _make_evaluator(probe, context, lr=AGP_LR)
    inner = pruning.L1NormPruner(probe, _nni_config(layers, AGP_SPARSITY), evaluator)
    captured: list[tuple[Any, Any]] = []
    _capture_metrics(inner, captured)
    pruning.AGPPruner(inner, interval_steps=AGP_INTERVAL_STEPS, total_times=AGP_ITERATIONS).compress(
        AGP_INTERVAL_STEPS * AGP_ITERATIONS, None
    )
    norms = _last_metrics(captured)
    alive = [_channel_values(masks, lambda mask: mask.flatten(1).amax(1)) for _, masks in captured]
    return {
        name: sum((masks[name] for masks in alive), np.zeros(len(norms[name]))) + norms[name] / (norms[name].sum() + 1)
        for name in norms
    }


def slim_factors(net: nn.Module, norm_layers: Sequence[str], context: CompressionContext) -> ChannelScores:
    """Magnitudes of the factors that NNI's Slim trains beside the scales of batch norms under an L1 penalty.

    NNI 3.0 leaves the scale (gamma) itself alone and starts each factor at 1, so the channel's scale in the sense of
    network slimming (Liu et al. 2017, https://arxiv.org/abs/1708.06519) is factor times gamma.

    Args:
        net: is not changed; it runs in eval mode.
        norm_layers: names of batch norms.
        context: with labelled images.

    Raises:
        BuildError: there are no images.
        MissingPackageError: nni is not installed.
    """
    probe = copy.deepcopy(net).eval()
    evaluator, config = _make_evaluator(probe, context, lr=0.0), _nni_config(norm_layers, NOMINAL_SPARSITY)
    nni_pruner = adapter.import_pruning().SlimPruner(
        probe, config, evaluator, training_steps=SLIM_STEPS, regular_scale=SLIM_PENALTY
    )
    return _last_metrics(_run_and_capture(nni_pruner))


def _nni_config(layers: Sequence[str], sparsity: float) -> list[dict[str, Any]]:
    return [{"op_names": list(layers), "target_names": ["weight"], "sparse_ratio": sparsity}]


def _run_and_capture(pruner: Any) -> list[tuple[Any, Any]]:
    captured: list[tuple[Any, Any]] = []
    _capture_metrics(pruner, captured)
    pruner.compress(None, None)
    return captured


def _capture_metrics(pruner: Any, captured: list[tuple[Any, Any]]) -> None:
    """Append (metrics, masks) to a list each time that the pruner makes masks."""
    generate = pruner._generate_sparsity

    def generate_and_capture(metrics: Any) -> Any:
        masks = generate(metrics)
        captured.append((metrics, masks))
        return masks

    pruner._generate_sparsity = generate_and_capture


def _last_metrics(captured: list[tuple[Any, Any]]) -> ChannelScores:
    return _channel_values(captured[-1][0], torch.flatten)


def _channel_values(tensors: Any, reduce: Callable[[torch.Tensor], torch.Tensor]) -> ChannelScores:
    return {name: reduce(kinds["weight"].detach().double()).numpy().copy() for name, kinds in sorted(tensors.items())}


def _n_batches(n_images: int) -> int:
    return max(1, -(-n_images // BATCH_SIZE))


def _make_evaluator(net: nn.Module, context: CompressionContext, *, lr: float) -> Any:
    """NNI's evaluator for a training that cycles through the images in order, until NNI has run enough steps."""
    images, labels = context.images, context.labels
    if not len(images):
        raise BuildError("this criterion of NNI needs labelled training images, but got none; use 'nni_l1'")

    def loss(batch: Any, model: nn.Module) -> torch.Tensor:
        pixels, classes = batch
        return F.cross_entropy(model(pixels), classes)

    def training(model: Any, optimizer: Any, step: Any, scheduler: Any, steps: int | None, epochs: int | None) -> None:
        for number in range(steps or _n_batches(len(images))):
            start = number % _n_batches(len(images)) * BATCH_SIZE
            rows = slice(start, start + BATCH_SIZE)
            optimizer.zero_grad()
            step((torch.from_numpy(images[rows]).float(), torch.from_numpy(labels[rows])), model).backward()
            optimizer.step()

    return adapter.make_evaluator(net, training, loss, lr=lr)
