"""What a net has to do, counted without building it: kernels, multiply-accumulates, elements moved and weights.

The counts describe a net to whoever guesses what it will cost or be worth; what a file really costs is read off the
file. An op is looked at once, and its layers are scaled to every width and size from then on.
"""

from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from search_spaces._leaf import Add, Concat, Normalise, Scale

PARTS = (
    "dense", "dense_macs", "pointwise", "pointwise_macs", "depthwise", "depthwise_macs", "moving", "moved",
    "elements", "weights", "channels",
)  # fmt: skip
"""Of a `Work`: kernels and multiply-accumulates of dense k x k, of 1x1 and linear, and of grouped layers; kernels
without weights and the elements they write; elements that layers with weights read and write; weights; outputs."""

Work = tuple[int, ...]
"""One count for each of `PARTS`, for one image."""

NOTHING: Work = (0,) * len(PARTS)
_MOVING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Sigmoid, nn.GELU, nn.Upsample, Add, Concat, Scale)
_PROBE_WIDTH, _PROBE_SIZE = 16, 16


class Layer(NamedTuple):
    """One layer of a net, for one image.

    Attributes:
        name: of its module; the first part is the unit.
        window: weights for each pair of channels; 0 for a layer without weights.
        reads: channels in.
        writes: channels out.
        groups: of a convolution.
        pixels_in: of the map it reads.
        pixels_out: of the map it writes.
    """

    name: str
    window: int
    reads: int
    writes: int
    groups: int
    pixels_in: int
    pixels_out: int

    @property
    def work(self) -> Work:
        """What it has to do."""
        if not self.window:
            return moving(self.writes, self.pixels_out)
        return layer_work(self.window, self.reads, self.writes, self.pixels_in, self.pixels_out, groups=self.groups)


def layer_work(window: int, reads: int, writes: int, pixels_in: int, pixels_out: int, *, groups: int = 1) -> Work:
    """The work of a convolution, or of a linear layer as one with a window and maps of one pixel."""
    weights = window * reads * writes // groups
    macs, elements = weights * pixels_out, reads * pixels_in + writes * pixels_out
    if groups > 1:
        return (0, 0, 0, 0, 1, macs, 0, 0, elements, weights, writes)
    if window == 1:
        return (0, 0, 1, macs, 0, 0, 0, 0, elements, weights, writes)
    return (1, macs, 0, 0, 0, 0, 0, 0, elements, weights, writes)


def moving(channels: int, pixels: int) -> Work:
    """The work of a layer without weights that writes such a map."""
    return (0, 0, 0, 0, 0, 0, 1, channels * pixels, 0, 0, 0)


def total(works: Iterable[Work]) -> Work:
    """The sum."""
    return tuple(map(sum, zip(*works, strict=True))) or NOTHING


def layers_of(net: nn.Module, shape: tuple[int, ...]) -> list[Layer]:
    """The layers of a net, on any device, in the order in which an input [1, *shape] reaches them.

    Activations and batch norms are left out: a runtime computes them within the layer before.
    """
    found: list[Layer] = []

    def noting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda module, inputs, output: found.append(_layer(name, module, inputs[0], output))

    kinds = (nn.Conv2d, nn.Linear, *_MOVING, Normalise)
    hooks = [m.register_forward_hook(noting(name)) for name, m in net.named_modules() if isinstance(m, kinds)]
    with torch.no_grad():
        net.eval()(torch.zeros(1, *shape, device=next(net.parameters(), torch.zeros(())).device))
    for hook in hooks:
        hook.remove()
    return found


def _layer(name: str, module: nn.Module, read: Tensor, written: Tensor) -> Layer:
    window, groups = 0, 1
    if isinstance(module, nn.Conv2d):
        window, groups = module.kernel_size[0] * module.kernel_size[1], module.groups
    elif isinstance(module, nn.Linear):
        window = 1
    reads, writes = read.shape[1], written.shape[1]
    return Layer(name, window, reads, writes, groups, read[0, 0].numel(), written[0, 0].numel())


@cache
def _scalable(make: Callable[[int], nn.Module]) -> tuple[tuple[float, ...], ...]:
    """Layers of a part that keeps its width: window, then reads, writes and groups in widths, and where maps stand.

    The last two are 1 for a map of the size that went in, 0 for one of the size that comes out.
    """
    with torch.random.fork_rng(devices=[]):  # nobody else's weights shall depend on it
        net = make(_PROBE_WIDTH)
    whole = _PROBE_SIZE**2
    return tuple(
        (
            each.window, each.reads / _PROBE_WIDTH, each.writes / _PROBE_WIDTH,
            each.groups / _PROBE_WIDTH if each.groups > 1 else 0, float(each.pixels_in == whole),
            float(each.pixels_out == whole),
        )
        for each in layers_of(net, (_PROBE_WIDTH, _PROBE_SIZE, _PROBE_SIZE))
    )  # fmt: skip


@lru_cache(maxsize=100_000)
def part_work(make: Callable[[int], nn.Module], width: int, size_in: int, size_out: int) -> Work:
    """The work of an op at a width [channels], from a square map to another.

    Args:
        make: width to a new op; the same object each time, as it is looked at once.
        width: channels in and out.
        size_in: height of the map that goes in.
        size_out: height of the map that comes out.
    """
    pixels = (size_out**2, size_in**2)
    works = []
    for window, reads, writes, groups, first, last in _scalable(make):
        cin, cout, inside, outside = round(reads * width), round(writes * width), pixels[int(first)], pixels[int(last)]
        if window:
            split = round(groups * width) or 1
            works.append(layer_work(int(window), cin, cout, inside, outside, groups=split))
        else:
            works.append(moving(cout, outside))
    return total(works)
