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

WORKLOAD_FIELDS = (
    "dense", "dense_macs", "pointwise", "pointwise_macs", "depthwise", "depthwise_macs", "moving", "moved",
    "elements", "weights", "channels", "joined",
)  # fmt: skip
"""Of a `Workload`: kernels and multiply-accumulates of dense k x k, of 1x1 and linear, and of grouped layers; kernels
without weights and the elements they read and write, with those that a layer adds to the kernel that takes it in;
elements that layers with weights read and write; weights; outputs; layers that the kernel before takes in."""

Workload = tuple[int, ...]
"""One count for each of `PARTS`, for one image."""

ZERO_WORKLOAD: Workload = (0,) * len(WORKLOAD_FIELDS)
TAIL_CONV, TAIL_SUM, TAIL_ELEMENTWISE = "conv", "held", "chain"
"""What may take in the layer that reads its map alone: a convolution, one that has taken in a sum, and a kernel that
works on single elements."""
_WEIGHTED = (nn.Conv2d, nn.Linear)
_EPILOGUE = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.Hardtanh)
_ELEMENTWISE = (
    nn.Sigmoid, nn.Hardsigmoid, nn.Hardswish, nn.SiLU, nn.Mish, nn.ELU, nn.Tanh, nn.GELU,
    Add, Scale, SwapAxes, Normalise,
)  # fmt: skip
_MEMORY_BOUND = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample, Concat)
_FUSED_MAPS: dict[type[nn.Module], int] = {Add: 1, Scale: 2}
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
    kernel_elements: int
    in_channels: int
    out_channels: int
    groups: int
    pixels_in: int
    pixels_out: int
    fused_maps: int

    @property
    def workload(self) -> Workload:
        """What it has to do."""
        if self.kernel_elements:
            return layer_workload(
                self.kernel_elements,
                self.in_channels,
                self.out_channels,
                self.pixels_in,
                self.pixels_out,
                groups=self.groups,
            )
        if self.fused_maps >= 0:
            return fused_workload(self.out_channels, self.pixels_out, n_maps=self.fused_maps)
        return memory_bound_workload(self.in_channels, self.out_channels, self.pixels_in, self.pixels_out)


def layer_workload(
    kernel_elements: int, in_channels: int, out_channels: int, pixels_in: int, pixels_out: int, *, groups: int = 1
) -> Workload:
    """The work of a convolution, or of a linear layer as one with a window and maps of one pixel."""
    weights = kernel_elements * in_channels * out_channels // groups
    macs, elements = weights * pixels_out, in_channels * pixels_in + out_channels * pixels_out
    if groups > 1:
        return (0, 0, 0, 0, 1, macs, 0, 0, elements, weights, out_channels, 0)
    if kernel_elements == 1:
        return (0, 0, 1, macs, 0, 0, 0, 0, elements, weights, out_channels, 0)
    return (1, macs, 0, 0, 0, 0, 0, 0, elements, weights, out_channels, 0)


def memory_bound_workload(in_channels: int, out_channels: int, pixels_in: int, pixels_out: int) -> Workload:
    """The work of a layer without weights: channels and pixels that it reads and writes."""
    return (0, 0, 0, 0, 0, 0, 1, in_channels * pixels_in + out_channels * pixels_out, 0, 0, 0, 0)


def fused_workload(channels: int, pixels: int, *, n_maps: int) -> Workload:
    """What a layer adds to the kernel that takes it in: so many maps of this size, read or written."""
    return (0, 0, 0, 0, 0, 0, 0, n_maps * channels * pixels, 0, 0, 0, 1)


def add_workload(channels: int, pixels: int, first: str, second: str) -> Workload:
    """The work of a sum of two maps, `first` and `second` being what wrote them: see `TAIL_CONV`."""
    if {TAIL_CONV, TAIL_ELEMENTWISE} & {first, second}:
        return fused_workload(channels, pixels, n_maps=1)
    return memory_bound_workload(2 * channels, channels, pixels, pixels)


def activation_workload(name: str, channels: int, pixels: int) -> Workload:
    """The work of an activation behind a convolution, which takes a ReLU in and nothing else."""
    return ZERO_WORKLOAD if name == "relu" else memory_bound_workload(channels, channels, pixels, pixels)


def activation_fusion_tail(name: str) -> str:
    """What may take in the layer behind a convolution and this activation."""
    return TAIL_CONV if name == "relu" else TAIL_ELEMENTWISE


def sum_workloads(works: Iterable[Workload]) -> Workload:
    """The sum."""
    return tuple(map(sum, zip(*works, strict=True))) or ZERO_WORKLOAD


def trace_layers(net: nn.Module, shape: tuple[int, ...]) -> list[Layer]:
    """The layers of a net, on any device, in the order in which an input [1, *shape] reaches them.

    A layer that the kernel before takes in, as `nas.latency.costs` has it, joins it; batch norms and rectifiers that do are
    left out.
    """
    return _trace_fused_layers(net, shape)[0]


@dataclass(kw_only=True)
class _TracedModule:
    """A module that ran: the maps it read by the number of the step that wrote them."""

    name: str
    module: nn.Module
    inputs: list[Tensor]
    output: Tensor
    source_steps: list[int]


def _trace_fused_layers(net: nn.Module, shape: tuple[int, ...]) -> tuple[list[Layer], str]:
    """The layers, and what the last of them may take in."""
    steps = _trace_modules(net, shape)
    readers = Counter(source for step in steps for source in step.source_steps)
    state: dict[int, str] = {}  # what wrote a map
    found = []
    for i, step in enumerate(steps):
        tails = [state.get(source, "") if readers[source] == 1 else "" for source in step.source_steps]
        kind = _fusion_tail_after(step.module, tails)
        joins = isinstance(step.module, _ELEMENTWISE) and (kind == TAIL_SUM or TAIL_ELEMENTWISE in tails)
        is_taken_in = isinstance(step.module, _EPILOGUE) and any(tails)
        state[i] = kind
        if not is_taken_in:
            found.append(_layer(step, fused_maps=_FUSED_MAPS.get(type(step.module), 0) if joins else -1))
    return found, state.get(len(steps) - 1, "")


def _fusion_tail_after(module: nn.Module, tails: list[str]) -> str:
    """What may take in the layer behind a module, of what wrote the maps that it reads."""
    if isinstance(module, _WEIGHTED):
        return TAIL_CONV
    if isinstance(module, _EPILOGUE):
        return next((tail for tail in (TAIL_CONV, TAIL_SUM) if tail in tails), TAIL_ELEMENTWISE)
    if isinstance(module, Add) and TAIL_CONV in tails:
        return TAIL_SUM
    return TAIL_ELEMENTWISE if isinstance(module, _ELEMENTWISE) else ""


def _trace_modules(net: nn.Module, shape: tuple[int, ...]) -> list[_TracedModule]:
    found: list[_TracedModule] = []
    number: dict[int, int] = {}  # of a tensor, which may be written in place

    def noting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            sources = [number.get(id(each), -1) for each in inputs]
            number[id(output)] = len(found)
            step = _TracedModule(name=name, module=module, inputs=[*inputs], output=output, source_steps=sources)
            found.append(step)

        return note

    kinds = (*_WEIGHTED, *_EPILOGUE, *_ELEMENTWISE, *_MEMORY_BOUND)
    hooks = [m.register_forward_hook(noting(name)) for name, m in net.named_modules() if isinstance(m, kinds)]
    with torch.no_grad():
        net.eval()(torch.zeros(1, *shape, device=next(net.parameters(), torch.zeros(())).device))
    for hook in hooks:
        hook.remove()
    return found


def _layer(step: _TracedModule, *, fused_maps: int) -> Layer:
    module, first, written = step.module, step.inputs[0], step.output
    window, groups = 0, 1
    if isinstance(module, nn.Conv2d):
        window, groups = module.kernel_size[0] * module.kernel_size[1], module.groups
    elif isinstance(module, nn.Linear):
        window = 1
    pixels = first[0, 0].numel()
    reads = sum(each.shape[1] for each in step.inputs if each[0, 0].numel() == pixels)
    return Layer(step.name, window, reads, written.shape[1], groups, pixels, written[0, 0].numel(), fused_maps)


class _LayerTemplate(NamedTuple):
    """A part that keeps its width: its layers, in widths, and what may take in the layer behind it."""

    layers: tuple[tuple[float, ...], ...]
    tail: str


@cache
def _layer_template(make: Callable[[int], nn.Module]) -> _LayerTemplate:
    """Of each layer window, then reads, writes and groups in widths, where its maps stand, and the maps it adds.

    Maps stand at 1 if they have the size that went in, at 0 if that which comes out.
    """
    with torch.random.fork_rng(devices=[]):  # nobody else's weights shall depend on it
        net = make(_PROBE_WIDTH)
    whole = _PROBE_SIZE**2
    layers, tail = _trace_fused_layers(net, (_PROBE_WIDTH, _PROBE_SIZE, _PROBE_SIZE))
    return _LayerTemplate(
        tuple(
            (
                each.kernel_elements, each.in_channels / _PROBE_WIDTH, each.out_channels / _PROBE_WIDTH,
                each.groups / _PROBE_WIDTH if each.groups > 1 else 0, float(each.pixels_in == whole),
                float(each.pixels_out == whole), each.fused_maps,
            )
            for each in layers
        ),
        tail,
    )  # fmt: skip


def fusion_tail(make: Callable[[int], nn.Module]) -> str:
    """What may take in the layer behind an op: see `TAIL_CONV`; empty for none, and for an op that has no layers."""
    return _layer_template(make).tail


@lru_cache(maxsize=100_000)
def scaled_workload(make: Callable[[int], nn.Module], width: int, size_in: int, size_out: int) -> Workload:
    """The work of an op at a width [channels], from a square map to another.

    Args:
        make: width to a new op; the same object each time, as it is looked at once.
        width: channels in and out.
        size_in: height of the map that goes in.
        size_out: height of the map that comes out.
    """
    pixels = (size_out**2, size_in**2)
    works = []
    for window, reads, writes, groups, first, last, adds in _layer_template(make).layers:
        cin, cout, inside, outside = round(reads * width), round(writes * width), pixels[int(first)], pixels[int(last)]
        split = round(groups * width) or 1
        works.append(Layer("", int(window), cin, cout, split, inside, outside, int(adds)).workload)
    return sum_workloads(works)
