"""Parallel branches of 3x3 convolutions in training, fused into the plain convolution afterwards.

After Ding et al., "RepVGG: making VGG-style ConvNets great again", CVPR 2021 (https://arxiv.org/abs/2101.03697): a 3x3
convolution with batch norm trains as the sum of itself, of a 1x1 convolution with batch norm, and, where it changes
neither width nor size, of a batch norm alone. All three are linear, so that their sum is one 3x3 convolution. Different
here:

- The branches live within one phase of a training. A plain network goes in and the same modules come out, so that
  checkpoints, pruning, quantisation, counts and export know nothing of them, and each later phase, of a pruned network
  too, begins with branches again.
- The new branches' last batch norms begin with gain 0 (Goyal et al., https://arxiv.org/abs/1706.02677, section 5.1), so
  that a trained network goes on as what it is.
- Behind the fused convolution stands a batch norm again, whose statistics are those of its outputs on some images: the
  next phase and the importance of channels by batch norm's gains find what a plain training would have left.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.data.base import Images

STATISTICS_IMAGES = 256
"""Training images whose statistics the batch norms behind fused convolutions get: as many as two batches."""


class Branches(nn.Module):
    """Sum of a 3x3 convolution, a 1x1 convolution and, where the shapes allow it, the identity, each with batch norm.

    [N, C, H, W] to [N, K, h, w], as the 3x3 convolution has it. A new module computes what the convolution and its
    batch norm compute; those two are its own from then on.
    """

    def __init__(self, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv, self.bn = conv, bn
        self.point = nn.Conv2d(conv.in_channels, conv.out_channels, 1, (conv.stride[0], conv.stride[1]), bias=False)
        self.point_bn = _closed_batch_norm(bn)
        keeps_shape = conv.in_channels == conv.out_channels and conv.stride == (1, 1)
        self.identity_bn = _closed_batch_norm(bn) if keeps_shape else None

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y: Tensor = self.bn(self.conv(x)) + self.point_bn(self.point(x))
        return y if self.identity_bn is None else y + self.identity_bn(x)

    def fused(self) -> tuple[Tensor, Tensor]:
        """Kernel [K, C, 3, 3] and bias [K] in float64 of the one convolution that equals the sum in eval mode."""
        kernel, bias = _folded(self.conv.weight.double(), self.bn)
        point, point_bias = _folded(self.point.weight.double(), self.point_bn)
        kernel, bias = kernel + functional.pad(point, (1, 1, 1, 1)), bias + point_bias
        if self.identity_bn is not None:
            centre = torch.eye(len(kernel), dtype=kernel.dtype)[:, :, None, None]
            identity, identity_bias = _folded(centre, self.identity_bn)
            kernel, bias = kernel + functional.pad(identity, (1, 1, 1, 1)), bias + identity_bias
        return kernel, bias


@dataclass(frozen=True)
class _Pair:
    """A convolution and its batch norm in the sequence that holds them."""

    sequence: nn.Sequential
    conv_name: str
    bn_name: str
    conv: nn.Conv2d
    bn: nn.BatchNorm2d


def statistics_images(images: Images) -> Tensor:
    """At most `STATISTICS_IMAGES` images of a split [N, C, H, W], evenly spread, as float32."""
    rows = np.linspace(0, len(images) - 1, min(STATISTICS_IMAGES, len(images))).astype(np.int64)
    return torch.from_numpy(images[rows]).float()


@contextmanager
def branched(net: nn.Module, images: Tensor, *, enabled: bool = True) -> Iterator[None]:
    """Within the block, the network's dense 3x3 convolutions with batch norm have branches; then they are fused.

    Pairs stand one after the other in an `nn.Sequential`, as `search_spaces._ops.conv_bn_act` makes them. A network
    without any, such as a folded graph, stays as it is. New weights come from torch's global generator.

    Args:
        net: on the CPU in float32 before the block and at its end; its modules are the same ones afterwards.
        images: [N, C, H, W] float32, 0..255, whose statistics the batch norms behind fused convolutions get.
        enabled: whether there are branches at all.
    """
    pairs = _branchable_pairs(net) if enabled else []
    for pair in pairs:
        setattr(pair.sequence, pair.conv_name, Branches(pair.conv, pair.bn).train(pair.conv.training))
        setattr(pair.sequence, pair.bn_name, nn.Identity())
    try:
        yield
        fused = [pair.sequence.get_submodule(pair.conv_name).fused() for pair in pairs]  # type: ignore[operator]
    finally:  # an interrupted training leaves plain modules too, of no use but of the right shape
        for pair in pairs:
            setattr(pair.sequence, pair.conv_name, pair.conv)
            setattr(pair.sequence, pair.bn_name, pair.bn)
    with torch.no_grad():
        for pair, (kernel, bias) in zip(pairs, fused, strict=True):
            pair.conv.weight.copy_(kernel)
            _set_batch_norm(pair.bn, torch.zeros_like(bias), torch.ones_like(bias) - pair.bn.eps, bias)
        if pairs:
            _measure_statistics(net, pairs, images)


def _branchable_pairs(net: nn.Module) -> list[_Pair]:
    uses = Counter(id(module) for _, module in net.named_modules(remove_duplicate=False))
    pairs = []
    for sequence in (module for module in net.modules() if isinstance(module, nn.Sequential)):
        for (conv_name, conv), (bn_name, bn) in itertools.pairwise(sequence.named_children()):
            is_used_once = uses[id(conv)] == uses[id(bn)] == 1
            if is_used_once and isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                pairs += [_Pair(sequence, conv_name, bn_name, conv, bn)] if _is_plain(conv) and bn.affine else []
    return [pair for pair in pairs if pair.bn.track_running_stats]


def _is_plain(conv: nn.Conv2d) -> bool:
    shape = (conv.kernel_size, conv.padding, conv.dilation)
    is_3x3 = shape == ((3, 3), (1, 1), (1, 1)) and conv.groups == 1 and conv.padding_mode == "zeros"
    return is_3x3 and conv.bias is None and not nn.utils.parametrize.is_parametrized(conv)


def _closed_batch_norm(model: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """A fresh batch norm like `model` whose output is 0 until it has trained."""
    bn = nn.BatchNorm2d(model.num_features, eps=model.eps, momentum=model.momentum)
    nn.init.zeros_(bn.weight)
    return bn


def _folded(kernel: Tensor, bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution without bias together with its batch norm, in float64."""
    mean, var = bn.get_buffer("running_mean").double(), bn.get_buffer("running_var").double()
    gain = bn.weight.double() * torch.rsqrt(var + bn.eps)
    return kernel * gain[:, None, None, None], bn.bias.double() - mean * gain


def _set_batch_norm(bn: nn.BatchNorm2d, mean: Tensor, var: Tensor, bias: Tensor) -> None:
    """Let a batch norm add `bias`, whatever the statistics are that it gets: its gain undoes them."""
    bn.load_state_dict({
        "running_mean": mean, "running_var": var, "weight": torch.sqrt(var.double() + bn.eps), "bias": bias + mean,
        "num_batches_tracked": torch.tensor(0),
    })  # fmt: skip


def _measure_statistics(net: nn.Module, pairs: list[_Pair], images: Tensor) -> None:
    """Give the batch norms the statistics of their inputs on these images; what they compute stays the same."""
    statistics: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def record(bn: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        flat = inputs[0].double().transpose(0, 1).flatten(1)
        statistics[bn] = flat.mean(1), flat.var(1, correction=0)

    handles = [pair.bn.register_forward_pre_hook(record) for pair in pairs]
    was_training = net.training
    net.eval()(images)
    net.train(was_training)
    for handle in handles:
        handle.remove()
    for pair in pairs:
        if pair.bn in statistics:
            mean, var = statistics[pair.bn]
            _set_batch_norm(pair.bn, mean, var, pair.bn.bias.double())
