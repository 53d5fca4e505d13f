"""What a net has to do, counted without building it: kernels, multiply-accumulates, elements moved and weights.

The counts describe a net to whoever guesses what it will cost or be worth; what a file really costs is read off the
file. An op is looked at once, and its layers are scaled to every width and size from then on.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from search_spaces._leaf import Add, Concat, Normalise, Scale, SwapAxes

PARTS = (
    "dense", "dense_macs", "pointwise", "pointwise_macs", "depthwise", "depthwise_macs", "moving", "moved",
    "elements", "weights", "channels", "joined",
)  # fmt: skip
"""Of a `Work`: kernels and multiply-accumulates of dense k x k, of 1x1 and linear, and of grouped layers; kernels
without weights and the elements they read and write, with those that a layer adds to the kernel that takes it in;
elements that layers with weights read and write; weights; outputs; layers that the kernel before takes in."""

Work = tuple[int, ...]
"""One count for each of `PARTS`, for one image."""

NOTHING: Work = (0,) * len(PARTS)
CONV, HELD, CHAIN = "conv", "held", "chain"
"""What may take in the layer that reads its map alone: a convolution, one that has taken in a sum, and a kernel that
works on single elements."""
_WEIGHTED = (nn.Conv2d, nn.Linear)
_EPILOGUE = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.Hardtanh)
_ELEMENTWISE = (
    nn.Sigmoid, nn.Hardsigmoid, nn.Hardswish, nn.SiLU, nn.Mish, nn.ELU, nn.Tanh, nn.GELU,
    Add, Scale, SwapAxes, Normalise,
)  # fmt: skip
_MOVING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample, Concat)
_ADDS: dict[type[nn.Module], int] = {Add: 1, Scale: 2}
"""Maps that a layer adds to the kernel that takes it in: a sum reads one more, a gate grows to what it scales."""
_PROBE_WIDTH, _PROBE_SIZE = 16, 16


class Layer(NamedTuple):
    """One layer of a net, for one image.

    Attributes:
        name: of its module; the first part is the unit.
        window: weights for each pair of channels; 0 for a layer without weights.
        reads: channels in, of all maps that it reads.
        writes: channels out.
        groups: of a convolution.
        pixels_in: of the maps it reads.
        pixels_out: of the map it writes.
        adds: maps that it adds to the kernel before, which takes it in; -1 where it is a kernel of its own.
    """

    name: str
    window: int
    reads: int
    writes: int
    groups: int
    pixels_in: int
    pixels_out: int
    adds: int

    @property
    def work(self) -> Work:
        """What it has to do."""
        if self.window:
            return layer_work(self.window, self.reads, self.writes, self.pixels_in, self.pixels_out, groups=self.groups)
        if self.adds >= 0:
            return joined(self.writes, self.pixels_out, maps=self.adds)
        return moving(self.reads, self.writes, self.pixels_in, self.pixels_out)


def layer_work(window: int, reads: int, writes: int, pixels_in: int, pixels_out: int, *, groups: int = 1) -> Work:
    """The work of a convolution, or of a linear layer as one with a window and maps of one pixel."""
    weights = window * reads * writes // groups
    macs, elements = weights * pixels_out, reads * pixels_in + writes * pixels_out
    if groups > 1:
        return (0, 0, 0, 0, 1, macs, 0, 0, elements, weights, writes, 0)
    if window == 1:
        return (0, 0, 1, macs, 0, 0, 0, 0, elements, weights, writes, 0)
    return (1, macs, 0, 0, 0, 0, 0, 0, elements, weights, writes, 0)


def moving(reads: int, writes: int, pixels_in: int, pixels_out: int) -> Work:
    """The work of a layer without weights: channels and pixels that it reads and writes."""
    return (0, 0, 0, 0, 0, 0, 1, reads * pixels_in + writes * pixels_out, 0, 0, 0, 0)


def joined(channels: int, pixels: int, *, maps: int) -> Work:
    """What a layer adds to the kernel that takes it in: so many maps of this size, read or written."""
    return (0, 0, 0, 0, 0, 0, 0, maps * channels * pixels, 0, 0, 0, 1)


def added(channels: int, pixels: int, first: str, second: str) -> Work:
    """The work of a sum of two maps, `first` and `second` being what wrote them: see `CONV`."""
    if {CONV, CHAIN} & {first, second}:
        return joined(channels, pixels, maps=1)
    return moving(2 * channels, channels, pixels, pixels)


def activated(name: str, channels: int, pixels: int) -> Work:
    """The work of an activation behind a convolution, which takes a ReLU in and nothing else."""
    return NOTHING if name == "relu" else moving(channels, channels, pixels, pixels)


def activated_tail(name: str) -> str:
    """What may take in the layer behind a convolution and this activation."""
    return CONV if name == "relu" else CHAIN


def total(works: Iterable[Work]) -> Work:
    """The sum."""
    return tuple(map(sum, zip(*works, strict=True))) or NOTHING


def layers_of(net: nn.Module, shape: tuple[int, ...]) -> list[Layer]:
    """The layers of a net, on any device, in the order in which an input [1, *shape] reaches them.

    A layer that the kernel before takes in, as `nas.latency.costs` has it, joins it; batch norms and rectifiers that do are
    left out.
    """
    return _looked_at(net, shape)[0]


@dataclass(kw_only=True)
class _Step:
    """A module that ran: the maps it read by the number of the step that wrote them."""

    name: str
    module: nn.Module
    read: list[Tensor]
    written: Tensor
    sources: list[int]


def _looked_at(net: nn.Module, shape: tuple[int, ...]) -> tuple[list[Layer], str]:
    """The layers, and what the last of them may take in."""
    steps = _steps(net, shape)
    readers = Counter(source for step in steps for source in step.sources)
    state: dict[int, str] = {}  # what wrote a map
    found = []
    for i, step in enumerate(steps):
        tails = [state.get(source, "") if readers[source] == 1 else "" for source in step.sources]
        kind = _after(step.module, tails)
        joins = isinstance(step.module, _ELEMENTWISE) and (kind == HELD or CHAIN in tails)
        is_taken_in = isinstance(step.module, _EPILOGUE) and any(tails)
        state[i] = kind
        if not is_taken_in:
            found.append(_layer(step, adds=_ADDS.get(type(step.module), 0) if joins else -1))
    return found, state.get(len(steps) - 1, "")


def _after(module: nn.Module, tails: list[str]) -> str:
    """What may take in the layer behind a module, of what wrote the maps that it reads."""
    if isinstance(module, _WEIGHTED):
        return CONV
    if isinstance(module, _EPILOGUE):
        return next((tail for tail in (CONV, HELD) if tail in tails), CHAIN)
    if isinstance(module, Add) and CONV in tails:
        return HELD
    return CHAIN if isinstance(module, _ELEMENTWISE) else ""


def _steps(net: nn.Module, shape: tuple[int, ...]) -> list[_Step]:
    found: list[_Step] = []
    number: dict[int, int] = {}  # of a tensor, which may be written in place

    def noting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            sources = [number.get(id(each), -1) for each in inputs]
            number[id(output)] = len(found)
            step = _Step(name=name, module=module, read=[*inputs], written=output, sources=sources)
            found.append(step)

        return note

    kinds = (*_WEIGHTED, *_EPILOGUE, *_ELEMENTWISE, *_MOVING)
    hooks = [m.register_forward_hook(noting(name)) for name, m in net.named_modules() if isinstance(m, kinds)]
    with torch.no_grad():
        net.eval()(torch.zeros(1, *shape, device=next(net.parameters(), torch.zeros(())).device))
    for hook in hooks:
        hook.remove()
    return found


def _layer(step: _Step, *, adds: int) -> Layer:
    module, first, written = step.module, step.read[0], step.written
    window, groups = 0, 1
    if isinstance(module, nn.Conv2d):
        window, groups = module.kernel_size[0] * module.kernel_size[1], module.groups
    elif isinstance(module, nn.Linear):
        window = 1
    pixels = first[0, 0].numel()
    reads = sum(each.shape[1] for each in step.read if each[0, 0].numel() == pixels)
    return Layer(step.name, window, reads, written.shape[1], groups, pixels, written[0, 0].numel(), adds)


class _Part(NamedTuple):
    """A part that keeps its width: its layers, in widths, and what may take in the layer behind it."""

    layers: tuple[tuple[float, ...], ...]
    tail: str


@cache
def _scalable(make: Callable[[int], nn.Module]) -> _Part:
    """Of each layer window, then reads, writes and groups in widths, where its maps stand, and the maps it adds.

    Maps stand at 1 if they have the size that went in, at 0 if that which comes out.
    """
    with torch.random.fork_rng(devices=[]):  # nobody else's weights shall depend on it
        net = make(_PROBE_WIDTH)
    whole = _PROBE_SIZE**2
    layers, tail = _looked_at(net, (_PROBE_WIDTH, _PROBE_SIZE, _PROBE_SIZE))
    return _Part(
        tuple(
            (
                each.window, each.reads / _PROBE_WIDTH, each.writes / _PROBE_WIDTH,
                each.groups / _PROBE_WIDTH if each.groups > 1 else 0, float(each.pixels_in == whole),
                float(each.pixels_out == whole), each.adds,
            )
            for each in layers
        ),
        tail,
    )  # fmt: skip


def tail_of(make: Callable[[int], nn.Module]) -> str:
    """What may take in the layer behind an op: see `CONV`; empty for none, and for an op that has no layers."""
    return _scalable(make).tail


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
    for window, reads, writes, groups, first, last, adds in _scalable(make).layers:
        cin, cout, inside, outside = round(reads * width), round(writes * width), pixels[int(first)], pixels[int(last)]
        split = round(groups * width) or 1
        works.append(Layer("", int(window), cin, cout, split, inside, outside, int(adds)).work)
    return total(works)
