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

from nas.compression.base import Context
from nas.compression.nni import adapter as _nni
from nas.compression.pruning.criterion import Scores
from nas.errors import BuildError

BATCH = 32
SPARSITY = 0.5
"""NNI asks how much shall go; its numbers do not depend on it."""
AGP_SPARSITY = 0.9
AGP_TIMES = 8
AGP_STEPS = 2
"""Training steps between two of AGP's masks."""
AGP_RATE = 0.01
SLIM_STEPS = 8
SLIM_PENALTY = 1e-2


def norm_scores(net: nn.Module, layers: Sequence[str], *, pruner: str) -> Scores:
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
    made = getattr(_nni.pruning(), pruner)(twin, _config(layers, SPARSITY))
    return _last(_caught(made))


def taylor_scores(net: nn.Module, layers: Sequence[str], context: Context) -> Scores:
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
    handle, steps = _evaluator(twin, context, rate=0.0), _batches(len(context.images))
    return _last(_caught(_nni.pruning().TaylorPruner(twin, _config(layers, SPARSITY), handle, training_steps=steps)))


def agp_scores(net: nn.Module, layers: Sequence[str], context: Context) -> Scores:
    """How many of AGP's masks a channel survives, and its share of the layer's L1 norm for those that fare alike.

    AGP (Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878) is a schedule, not a metric: the masks of its L1 pruner
    grow in steps, with training between. Arguments as in `taylor_scores`.

    Raises:
        BuildError: there are no images.
        MissingPackageError: nni is not installed.
    """
    pruning, twin = _nni.pruning(), copy.deepcopy(net).eval()
    handle = _evaluator(twin, context, rate=AGP_RATE)
    inner = pruning.L1NormPruner(twin, _config(layers, AGP_SPARSITY), handle)
    caught: list[tuple[Any, Any]] = []
    _catch(inner, caught)
    pruning.AGPPruner(inner, interval_steps=AGP_STEPS, total_times=AGP_TIMES).compress(AGP_STEPS * AGP_TIMES, None)
    norms = _last(caught)
    alive = [_channels(masks, lambda mask: mask.flatten(1).amax(1)) for _, masks in caught]
    return {
        name: sum((masks[name] for masks in alive), np.zeros(len(norms[name]))) + norms[name] / (norms[name].sum() + 1)
        for name in norms
    }


def slim_factors(net: nn.Module, norms: Sequence[str], context: Context) -> Scores:
    """The factors beside the scales of batch norms that NNI's Slim learns under an L1 penalty, absolute.

    NNI 3.0 leaves the scale (gamma) itself alone and starts each factor at 1, so the channel's scale in the sense of
    network slimming (Liu et al. 2017, https://arxiv.org/abs/1708.06519) is factor times gamma.

    Args:
        net: is not changed; it runs in eval mode.
        norms: names of batch norms.
        context: whose labelled images are learned from.

    Raises:
        BuildError: there are no images.
        MissingPackageError: nni is not installed.
    """
    twin = copy.deepcopy(net).eval()
    handle = _evaluator(twin, context, rate=0.0)
    made = _nni.pruning().SlimPruner(
        twin, _config(norms, SPARSITY), handle, training_steps=SLIM_STEPS, regular_scale=SLIM_PENALTY
    )
    return _last(_caught(made))


def _config(layers: Sequence[str], sparsity: float) -> list[dict[str, Any]]:
    return [{"op_names": list(layers), "target_names": ["weight"], "sparse_ratio": sparsity}]


def _caught(pruner: Any) -> list[tuple[Any, Any]]:
    caught: list[tuple[Any, Any]] = []
    _catch(pruner, caught)
    pruner.compress(None, None)
    return caught


def _catch(pruner: Any, caught: list[tuple[Any, Any]]) -> None:
    """Have (metrics, masks) put on a list each time that the pruner makes masks."""
    make = pruner._generate_sparsity

    def made(metrics: Any) -> Any:
        masks = make(metrics)
        caught.append((metrics, masks))
        return masks

    pruner._generate_sparsity = made


def _last(caught: list[tuple[Any, Any]]) -> Scores:
    return _channels(caught[-1][0], torch.flatten)


def _channels(found: Any, reduce: Callable[[torch.Tensor], torch.Tensor]) -> Scores:
    return {name: reduce(targets["weight"].detach().double()).numpy().copy() for name, targets in sorted(found.items())}


def _batches(count: int) -> int:
    return max(1, -(-count // BATCH))


def _evaluator(net: nn.Module, context: Context, *, rate: float) -> Any:
    """NNI's handle on a training over the images in order, again and again, until NNI has seen enough steps."""
    images, labels = context.images, context.labels
    if not len(images):
        raise BuildError("this criterion of NNI needs labelled training images, but got none; use 'nni_l1'")

    def loss(batch: Any, twin: nn.Module) -> torch.Tensor:
        pixels, classes = batch
        return F.cross_entropy(twin(pixels), classes)

    def training(twin: Any, optimizer: Any, step: Any, scheduler: Any, steps: int | None, epochs: int | None) -> None:
        for number in range(steps or _batches(len(images))):
            at = number % _batches(len(images)) * BATCH
            batch = torch.from_numpy(images[at : at + BATCH]).float(), torch.from_numpy(labels[at : at + BATCH])
            optimizer.zero_grad()
            step(batch, twin).backward()
            optimizer.step()

    return _nni.evaluator(net, training, loss, rate=rate)
