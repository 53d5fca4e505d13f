"""What NNI's pruners think of each output channel, read where they make their masks of it.

Each pruner works on a copy of the net, by its own `compress`: its numbers are caught as it hands them to its mask
generator. The trained ones (Taylor, AGP, Slim) see the images of the context through NNI's own evaluator.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nas.compression.base import CompressionContext
from nas.compression.nni import adapter as _nni
from nas.compression.pruning.criterion import ChannelScores
from nas.errors import BuildError

BATCH_SIZE = 32
NOMINAL_SPARSITY = 0.5
"""NNI asks how much shall go; its numbers do not depend on it."""
AGP_SPARSITY = 0.9
AGP_ITERATIONS = 8
AGP_INTERVAL_STEPS = 2
"""Training steps between two of AGP's masks."""
AGP_LR = 0.01
SLIM_STEPS = 8
SLIM_PENALTY = 1e-2


def norm_scores(net: nn.Module, layers: Sequence[str], *, pruner: str) -> ChannelScores:
    """The metric of one of NNI's pruners that look at weights only.

    Args:
        net: is not changed.
        layers: names of convolutions and linear layers.
        pruner: a class of nni.compression.pruning: "L1NormPruner", "L2NormPruner" or "FPGMPruner".

    Returns:
        Layer to [output channels]; higher is more important.

    Raises:
        MissingPackageError: nni is not installed.
    """
    twin = copy.deepcopy(net)
    made = getattr(_nni.import_pruning(), pruner)(twin, _nni_config(layers, NOMINAL_SPARSITY))
    return _last_metrics(_run_and_capture(made))


def taylor_scores(net: nn.Module, layers: Sequence[str], context: CompressionContext) -> ChannelScores:
    """The sum over a channel's weights of the mean square of weight times gradient (Molchanov et al. 2019).

    The weights stay: the optimiser's rate is 0.

    Args:
        net: is not changed; it runs in eval mode.
        layers: names of convolutions and linear layers.
        context: whose labelled images are learned from.

    Raises:
        BuildError: there are no images.
        MissingPackageError: nni is not installed.
    """
    twin = copy.deepcopy(net).eval()
    handle, steps = _make_evaluator(twin, context, lr=0.0), _n_batches(len(context.images))
    return _last_metrics(
        _run_and_capture(
            _nni.import_pruning().TaylorPruner(
                twin, _nni_config(layers, NOMINAL_SPARSITY), handle, training_steps=steps
            )
        )
    )


def agp_scores(net: nn.Module, layers: Sequence[str], context: CompressionContext) -> ChannelScores:
    """How many of AGP's masks a channel survives, and its share of the layer's L1 norm for those that fare alike.

    AGP (Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878) is a schedule, not a metric: the masks of its L1 pruner
    grow in steps, with training between. Arguments as in `taylor_scores`.

    Raises:
        BuildError: there are no images.
        MissingPackageError: nni is not installed.
    """
    pruning, twin = _nni.import_pruning(), copy.deepcopy(net).eval()
    handle = _make_evaluator(twin, context, lr=AGP_LR)
    inner = pruning.L1NormPruner(twin, _nni_config(layers, AGP_SPARSITY), handle)
    caught: list[tuple[Any, Any]] = []
    _capture_metrics(inner, caught)
    pruning.AGPPruner(inner, interval_steps=AGP_INTERVAL_STEPS, total_times=AGP_ITERATIONS).compress(
        AGP_INTERVAL_STEPS * AGP_ITERATIONS, None
    )
    norms = _last_metrics(caught)
    alive = [_channel_values(masks, lambda mask: mask.flatten(1).amax(1)) for _, masks in caught]
    return {
        name: sum((masks[name] for masks in alive), np.zeros(len(norms[name]))) + norms[name] / (norms[name].sum() + 1)
        for name in norms
    }


def slim_factors(net: nn.Module, norm_layers: Sequence[str], context: CompressionContext) -> ChannelScores:
    """The factors beside the scales of batch norms that NNI's Slim learns under an L1 penalty, absolute.

    NNI 3.0 leaves the scale (gamma) itself alone and starts each factor at 1, so the channel's scale in the sense of
    network slimming (Liu et al. 2017, https://arxiv.org/abs/1708.06519) is factor times gamma.

    Args:
        net: is not changed; it runs in eval mode.
        norm_layers: names of batch norms.
        context: whose labelled images are learned from.

    Raises:
        BuildError: there are no images.
        MissingPackageError: nni is not installed.
    """
    twin = copy.deepcopy(net).eval()
    handle = _make_evaluator(twin, context, lr=0.0)
    made = _nni.import_pruning().SlimPruner(
        twin, _nni_config(norm_layers, NOMINAL_SPARSITY), handle, training_steps=SLIM_STEPS, regular_scale=SLIM_PENALTY
    )
    return _last_metrics(_run_and_capture(made))


def _nni_config(layers: Sequence[str], sparsity: float) -> list[dict[str, Any]]:
    return [{"op_names": list(layers), "target_names": ["weight"], "sparse_ratio": sparsity}]


def _run_and_capture(pruner: Any) -> list[tuple[Any, Any]]:
    caught: list[tuple[Any, Any]] = []
    _capture_metrics(pruner, caught)
    pruner.compress(None, None)
    return caught


def _capture_metrics(pruner: Any, captured: list[tuple[Any, Any]]) -> None:
    """Have (metrics, masks) put on a list each time that the pruner makes masks."""
    make = pruner._generate_sparsity

    def made(metrics: Any) -> Any:
        masks = make(metrics)
        captured.append((metrics, masks))
        return masks

    pruner._generate_sparsity = made


def _last_metrics(captured: list[tuple[Any, Any]]) -> ChannelScores:
    return _channel_values(captured[-1][0], torch.flatten)


def _channel_values(found: Any, reduce: Callable[[torch.Tensor], torch.Tensor]) -> ChannelScores:
    return {name: reduce(targets["weight"].detach().double()).numpy().copy() for name, targets in sorted(found.items())}


def _n_batches(n_images: int) -> int:
    return max(1, -(-n_images // BATCH_SIZE))


def _make_evaluator(net: nn.Module, context: CompressionContext, *, lr: float) -> Any:
    """NNI's handle on a training over the images in order, again and again, until NNI has seen enough steps."""
    images, labels = context.images, context.labels
    if not len(images):
        raise BuildError("this criterion of NNI needs labelled training images, but got none; use 'nni_l1'")

    def loss(batch: Any, twin: nn.Module) -> torch.Tensor:
        pixels, classes = batch
        return F.cross_entropy(twin(pixels), classes)

    def training(twin: Any, optimizer: Any, step: Any, scheduler: Any, steps: int | None, epochs: int | None) -> None:
        for number in range(steps or _n_batches(len(images))):
            at = number % _n_batches(len(images)) * BATCH_SIZE
            batch = (
                torch.from_numpy(images[at : at + BATCH_SIZE]).float(),
                torch.from_numpy(labels[at : at + BATCH_SIZE]),
            )
            optimizer.zero_grad()
            step(batch, twin).backward()
            optimizer.step()

    return _nni.make_evaluator(net, training, loss, lr=lr)
