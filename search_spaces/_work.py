"""Workload of a network, counted without building it: kernels, MACs, elements read and written, and weights.

The counts are inputs of cost and accuracy predictions; the costs of a file are read off the file. Each op is traced
once, and its layers are scaled to every width and size from then on.

Fusion follows `nas.latency.costs`: a runtime fuses batch norm and ReLU into the convolution before, a sum into one of
the convolutions that it reads, and an elementwise layer into an elementwise kernel.
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
"""Fields of a `Workload`:

- `dense`, `dense_macs`: kernels and MACs of k x k convolutions with one group;
- `pointwise`, `pointwise_macs`: of 1x1 convolutions and linear layers;
- `depthwise`, `depthwise_macs`: of convolutions with more than one group;
- `moving`, `moved`: memory-bound kernels, and the elements that these and fused layers read and write;
- `elements`: elements that layers with weights read and write;
- `weights`, `channels`: of layers with weights, their weights and output channels;
- `joined`: layers that are fused into the kernel before.
"""

Workload = tuple[int, ...]
"""One count for each of `WORKLOAD_FIELDS`, for one image."""

ZERO_WORKLOAD: Workload = (0,) * len(WORKLOAD_FIELDS)
TAIL_CONV, TAIL_SUM, TAIL_ELEMENTWISE = "conv", "held", "chain"
"""Fusion tails, the kinds of kernel that the only reader of a map can be fused into: a convolution, a convolution with
a fused sum, and an elementwise kernel. The empty string stands for none."""
_WEIGHTED = (nn.Conv2d, nn.Linear)
_EPILOGUE = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.Hardtanh)
_ELEMENTWISE = (
    nn.Sigmoid, nn.Hardsigmoid, nn.Hardswish, nn.SiLU, nn.Mish, nn.ELU, nn.Tanh, nn.GELU,
    Add, Scale, SwapAxes, Normalise,
)  # fmt: skip
_MEMORY_BOUND = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample, Concat)
_FUSED_MAPS: dict[type[nn.Module], int] = {Add: 1, Scale: 2}
"""Maps that a fused layer adds to the traffic of its kernel: a sum reads one more, and a gate [N, C, 1, 1] grows to the
map that it scales, which is read and written."""
_PROBE_WIDTH, _PROBE_SIZE = 16, 16
"""Width and height at which an op is traced; any value does from which counts scale without rounding."""


class Layer(NamedTuple):
    """One layer of a network, for one image.

    Attributes:
        name: of its module; the first part is the unit.
        kernel_elements: weights for each pair of channels; 0 for a layer without weights.
        in_channels: sum over all maps that it reads.
        out_channels: of the map that it writes.
        groups: of a convolution.
        pixels_in: of the maps that it reads.
        pixels_out: of the map that it writes.
        fused_maps: maps that it adds to the traffic of the kernel it is fused into; -1 for a kernel of its own.
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
        """The workload of this layer."""
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
    """Workload of a convolution, or of a linear layer as a 1x1 convolution of maps of one pixel."""
    weights = kernel_elements * in_channels * out_channels // groups
    macs, elements = weights * pixels_out, in_channels * pixels_in + out_channels * pixels_out
    if groups > 1:
        return (0, 0, 0, 0, 1, macs, 0, 0, elements, weights, out_channels, 0)
    if kernel_elements == 1:
        return (0, 0, 1, macs, 0, 0, 0, 0, elements, weights, out_channels, 0)
    return (1, macs, 0, 0, 0, 0, 0, 0, elements, weights, out_channels, 0)


def memory_bound_workload(in_channels: int, out_channels: int, pixels_in: int, pixels_out: int) -> Workload:
    """Workload of a layer without weights, from the channels and pixels that it reads and writes."""
    return (0, 0, 0, 0, 0, 0, 1, in_channels * pixels_in + out_channels * pixels_out, 0, 0, 0, 0)


def fused_workload(channels: int, pixels: int, *, n_maps: int) -> Workload:
    """Workload that a fused layer adds to its kernel: `n_maps` maps of this size, read or written."""
    return (0, 0, 0, 0, 0, 0, 0, n_maps * channels * pixels, 0, 0, 0, 1)


def add_workload(channels: int, pixels: int, first: str, second: str) -> Workload:
    """Workload of a sum of two maps, where `first` and `second` are their fusion tails: see `TAIL_CONV`."""
    if {TAIL_CONV, TAIL_ELEMENTWISE} & {first, second}:
        return fused_workload(channels, pixels, n_maps=1)
    return memory_bound_workload(2 * channels, channels, pixels, pixels)


def activation_workload(name: str, channels: int, pixels: int) -> Workload:
    """Workload of an activation after a convolution, into which a ReLU is fused and nothing else."""
    return ZERO_WORKLOAD if name == "relu" else memory_bound_workload(channels, channels, pixels, pixels)


def activation_fusion_tail(name: str) -> str:
    """Fusion tail of a convolution with this activation."""
    return TAIL_CONV if name == "relu" else TAIL_ELEMENTWISE


def sum_workloads(works: Iterable[Workload]) -> Workload:
    """Sum of workloads, field by field."""
    return tuple(map(sum, zip(*(work for work in works if work is not ZERO_WORKLOAD), strict=True))) or ZERO_WORKLOAD


def trace_layers(net: nn.Module, shape: tuple[int, ...]) -> list[Layer]:
    """Layers of a network, on any device, in the order in which an input [1, *shape] reaches them.

    Fused layers are marked, except batch norms and rectifiers, which add no traffic and are left out.
    """
    return _trace_fused_layers(net, shape)[0]


@dataclass(kw_only=True)
class _TracedModule:
    """One call of a module in a forward pass; `source_steps` are the calls that wrote its inputs, -1 for none."""

    name: str
    module: nn.Module
    inputs: list[Tensor]
    output: Tensor
    source_steps: list[int]


def _trace_fused_layers(net: nn.Module, shape: tuple[int, ...]) -> tuple[list[Layer], str]:
    """The layers of a network, and the fusion tail of the last."""
    steps = _trace_modules(net, shape)
    readers = Counter(source for step in steps for source in step.source_steps)
    state: dict[int, str] = {}  # fusion tail of the output of each step
    found = []
    for i, step in enumerate(steps):
        # A map with a second reader has to be written to memory, so nothing is fused into its kernel.
        tails = [state.get(source, "") if readers[source] == 1 else "" for source in step.source_steps]
        kind = _fusion_tail_after(step.module, tails)
        joins = isinstance(step.module, _ELEMENTWISE) and (kind == TAIL_SUM or TAIL_ELEMENTWISE in tails)
        is_taken_in = isinstance(step.module, _EPILOGUE) and any(tails)
        state[i] = kind
        if not is_taken_in:
            found.append(_layer(step, fused_maps=_FUSED_MAPS.get(type(step.module), 0) if joins else -1))
    return found, state.get(len(steps) - 1, "")


def _fusion_tail_after(module: nn.Module, tails: list[str]) -> str:
    """Fusion tail of a module, from those of its inputs."""
    if isinstance(module, _WEIGHTED):
        return TAIL_CONV
    if isinstance(module, _EPILOGUE):
        return next((tail for tail in (TAIL_CONV, TAIL_SUM) if tail in tails), TAIL_ELEMENTWISE)
    if isinstance(module, Add) and TAIL_CONV in tails:
        return TAIL_SUM
    return TAIL_ELEMENTWISE if isinstance(module, _ELEMENTWISE) else ""


def _trace_modules(net: nn.Module, shape: tuple[int, ...]) -> list[_TracedModule]:
    found: list[_TracedModule] = []
    step_of: dict[int, int] = {}  # by the tensor's id; an in-place module overwrites the step of its input

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            sources = [step_of.get(id(each), -1) for each in inputs]
            step_of[id(output)] = len(found)
            step = _TracedModule(name=name, module=module, inputs=[*inputs], output=output, source_steps=sources)
            found.append(step)

        return record

    kinds = (*_WEIGHTED, *_EPILOGUE, *_ELEMENTWISE, *_MEMORY_BOUND)
    hooks = [m.register_forward_hook(recorder(name)) for name, m in net.named_modules() if isinstance(m, kinds)]
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
    # A gate [N, C, 1, 1] has another size than the map that it scales; its traffic is negligible.
    reads = sum(each.shape[1] for each in step.inputs if each[0, 0].numel() == pixels)
    return Layer(step.name, window, reads, written.shape[1], groups, pixels, written[0, 0].numel(), fused_maps)


class _LayerTemplate(NamedTuple):
    """An op that keeps its width: its layers with channels in units of the width, and its fusion tail."""

    layers: tuple[tuple[float, ...], ...]
    tail: str


@cache
def _layer_template(make: Callable[[int], nn.Module]) -> _LayerTemplate:
    """The layers of an op, traced at `_PROBE_WIDTH`.

    Of each layer: kernel elements; input channels, output channels and groups in units of the width (groups 0 for one
    group); whether its input, and its output, has the size of the op's input (1) or output (0); fused maps.
    """
    with torch.random.fork_rng(devices=[]):  # initialising the weights must not change the caller's random state
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
    """Fusion tail of an op, see `TAIL_CONV`; empty for none, and for an op without layers."""
    return _layer_template(make).tail


@lru_cache(maxsize=100_000)
def scaled_workload(make: Callable[[int], nn.Module], width: int, size_in: int, size_out: int) -> Workload:
    """Workload of an op on a square map.

    Args:
        make: width to a new op; pass the same object each time, since it is the key of the cache of traced ops.
        width: channels in and out.
        size_in: height of the input map.
        size_out: height of the output map.
    """
    pixels = (size_out**2, size_in**2)
    works = []
    for window, reads, writes, groups, first, last, adds in _layer_template(make).layers:
        cin, cout, inside, outside = round(reads * width), round(writes * width), pixels[int(first)], pixels[int(last)]
        split = round(groups * width) or 1
        works.append(Layer("", int(window), cin, cout, split, inside, outside, int(adds)).workload)
    return sum_workloads(works)
