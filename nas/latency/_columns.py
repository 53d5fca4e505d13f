"""What a net has of every kind of cost: the columns of the additive model, and what a profile says of their prices.

For each class of kernels and bit-width: launches and megabytes of traffic, and where there is arithmetic millions of
multiply-accumulates with channels rounded up to the block, and again those of layers whose channels do not fill it. One
more column is 1 for every net. A class is a kind of kernel; first convolutions, activations that are curves, and those
with an error function are told apart, because nothing else explains their time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile, LatencyModel
from nas.costs import Kernel
from nas.latency._rates import padded_macs, peak_gops

Floats = npt.NDArray[np.float64]

FIXED = "fixed"
_WEIGHTED = ("stem", "conv", "pointwise", "depthwise", "grouped", "linear")
_MOVING = ("pool", "elementwise", "curve", "erf", "concat", "resize", "reduce")
CLASSES = dict.fromkeys(_WEIGHTED, ("launch", "mbyte", "mmac", "misaligned")) | dict.fromkeys(
    _MOVING, ("launch", "mbyte")
)
_CURVES = frozenset({"HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Exp", "Softplus", "Elu", "Mish", "Gelu"})
_STEM_CHANNELS = 4  # no runtime has blocks of the input's few channels: such a convolution goes another way

_LIKE = {"stem": "conv"}  # which of a profile's efficiencies a class goes by

# Only their ratios matter: the multipliers of the tie bring the scale. Usual of small convolutions on processors.
_ASSUMED = LatencyModel(
    fixed_us=5,
    floor_us=2,
    efficiency={"conv": 0.5, "pointwise": 0.4, "depthwise": 0.1, "grouped": 0.2, "linear": 0.2},
    relative_error=0.9,
    source="assumed",
)


@dataclass(frozen=True)
class Columns:
    """The columns for one device.

    Attributes:
        bits: bit-widths of arithmetic that the device tells apart, ascending; a kernel counts at the next wider one.
        block: channels are rounded up to multiples of it.
    """

    bits: tuple[int, ...]
    block: int

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of every column: `fixed`, then `<kind><bits>.<part>`."""
        return (FIXED, *(f"{c}{bits}.{part}" for c, parts in CLASSES.items() for bits in self.bits for part in parts))

    @cached_property
    def _first(self) -> dict[tuple[str, int], int]:
        found, at = {}, 1
        for word, parts in CLASSES.items():
            for bits in self.bits:
                found[word, bits] = at
                at += len(parts)
        return found

    def row(self, kernels: Iterable[Kernel]) -> Floats:
        """[k] What these kernels have of every column but `fixed`, which is 0."""
        found = [0.0] * len(self.names)
        for kernel in kernels:
            word = class_of(kernel)
            at = self._first[word, self._width(kernel.bits)]
            found[at] += 1
            found[at + 1] += (kernel.input_bytes + kernel.output_bytes + kernel.weight_bytes) / 1e6
            if word in _WEIGHTED:
                macs = padded_macs(kernel, 1 if word == "stem" else self.block) / 1e6
                found[at + 2] += macs
                if kernel.in_channels % self.block or kernel.out_channels % self.block:
                    found[at + 3] += macs
        return np.array(found)

    def matrix(self, nets: Sequence[Iterable[Kernel]]) -> Floats:
        """[n, k] The rows of several nets, with 1 in `fixed`."""
        found = np.array([self.row(kernels) for kernels in nets]).reshape(len(nets), len(self.names))
        found[:, 0] = 1
        return found

    def _width(self, bits: int) -> int:
        return min((b for b in self.bits if b >= bits), default=self.bits[-1])


def class_of(kernel: Kernel) -> str:
    """The word of the kernel's class: its kind, with first convolutions and costly activations told apart."""
    if kernel.kind == "conv" and kernel.in_channels <= _STEM_CHANNELS:
        return "stem"
    if kernel.kind == "elementwise" and "Erf" in kernel.operators:
        return "erf"
    if kernel.kind == "elementwise" and not _CURVES.isdisjoint(kernel.operators):
        return "curve"
    return kernel.kind


def columns_for(profile: HardwareProfile) -> Columns:
    """The columns of a device: its precisions, and its fact `block` where it states one, else its channel multiple."""
    return Columns(bits=profile.precisions, block=int(profile.facts.get("block", profile.channel_multiple)))


def ties(profile: HardwareProfile, columns: Columns) -> list[Floats]:
    """Prior structures [k, t] in microseconds: what the profile says a unit of each column costs, split into parts.

    The coarse one has four parts (fixed, launches, arithmetic, traffic); the finer one tells convolutions that fill the
    arithmetic units, depthwise and grouped ones, and kernels that only move data apart, and each bit-width.
    """
    model = profile.latency or _ASSUMED
    price = np.array([_price(name, profile, model) for name in columns.names])
    coarse = [name.rpartition(".")[2] for name in columns.names]
    fine = [_fine(name) for name in columns.names]
    return [_tie(price, coarse), _tie(price, fine)]


def _tie(price: Floats, groups: list[str]) -> Floats:
    words = list(dict.fromkeys(groups))
    found = np.zeros((len(price), len(words)))
    for i, group in enumerate(groups):
        found[i, words.index(group)] = price[i]
    return found


def _fine(name: str) -> str:
    kernel, _, part = name.rpartition(".")
    if not kernel:
        return part
    kind = kernel.rstrip("0123456789")
    bits = kernel[len(kind) :]
    if kind in {"depthwise", "grouped"}:
        return f"sparse{bits}.{part}"
    return f"dense{bits}.{part}" if kind in _WEIGHTED else f"move.{part}"


def _price(name: str, profile: HardwareProfile, model: LatencyModel) -> float:
    """Microseconds of one unit of a column."""
    kernel, _, part = name.rpartition(".")
    if part == FIXED:
        return model.fixed_us
    if part == "launch":
        return model.floor_us
    if part == "mbyte":
        return 1e3 / (profile.bandwidth_gb_s * model.efficiency.get("memory", 1.0))
    kind = kernel.rstrip("0123456789")
    if part == "misaligned" or kind not in _WEIGHTED:
        return 0.0
    rate = peak_gops(profile, int(kernel[len(kind) :])) * model.efficiency.get(_LIKE.get(kind, kind), 1.0)
    return 2e3 / rate
