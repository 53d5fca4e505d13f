"""What a net has of every kind of cost: the columns of the additive model, and what a profile says of their prices.

For each class of kernels and bit-width: launches and megabytes of activations; where there is arithmetic also megabytes
of weights, and millions of multiply-accumulates with channels rounded up to the block: all of them, those of layers
whose channels do not fill the block, and those of layers with no more outputs than one block; and millions of taps,
which are output positions times positions of the window: integer convolutions gather each of them before they multiply.
One more column is 1 for every net. A class is a kind of kernel; convolutions whose inputs do not fill a block (the
first of a net), activations that are curves, those with an error function, and integer poolings without a vector form
are told apart, because nothing else explains their time. A curve that is fused into a convolution adds its traffic to
the curves, and no launch.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile, LatencyModel
from nas.latency.costs import Kernel
from nas.latency.predicted.arithmetic import padded_macs, peak_gops

Floats = npt.NDArray[np.float64]

FIXED = "fixed"
_WEIGHTED_CLASSES = ("stem", "conv", "pointwise", "depthwise", "grouped", "unblocked", "linear")
_DATA_MOVEMENT_CLASSES = (
    "pool", "average", "maximum", "elementwise", "curve", "erf", "concat", "resize", "reduce", "reorder", "view",
    "convert",
)  # fmt: skip
COST_PARTS = {
    **dict.fromkeys(_WEIGHTED_CLASSES, ("launch", "mbyte", "weights", "mmac", "misaligned", "narrow", "taps")),
    **dict.fromkeys(_DATA_MOVEMENT_CLASSES, ("launch", "mbyte")),
}
_CURVED_ACTIVATION_OPS = frozenset(
    {"HardSwish", "HardSigmoid", "Sigmoid", "QLinearSigmoid", "Tanh", "Exp", "Softplus", "Elu", "Mish"}
)
_ERF_OPS = frozenset({"Erf", "Gelu"})
_SCALAR_POOL_CLASS = {"QLinearAveragePool": "average", "MaxPool": "maximum"}  # ONNX Runtime's, on 8 bits
_POINTER_BYTES = 8  # what a tap is gathered by

_MACS_SURCHARGE = {
    "misaligned": 0.1,
    "narrow": 0.3,
}  # of arithmetic that does not fill what the device works on at once
_EFFICIENCY_KEY = {"stem": "conv", "unblocked": "grouped"}  # which of a profile's efficiencies a class goes by

# Only their ratios matter: the multipliers of the tie bring the scale. Usual of small convolutions on processors.
_DEFAULT_LATENCY_MODEL = LatencyModel(
    fixed_us=5,
    floor_us=2,
    efficiency={"conv": 0.5, "pointwise": 0.4, "depthwise": 0.1, "grouped": 0.2, "linear": 0.2},
    relative_error=0.9,
    source="assumed",
)


@dataclass(frozen=True)
class CostColumns:
    """The columns for one device.

    Attributes:
        bits: bit-widths of arithmetic that the device tells apart, ascending; a kernel counts at the next wider one.
        block: channels are rounded up to multiples of it.
    """

    bits: tuple[int, ...]
    block: int

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of every column: `fixed`, then `<class><bits>.<part>`."""
        return (
            FIXED,
            *(f"{c}{bits}.{part}" for c, parts in COST_PARTS.items() for bits in self.bits for part in parts),
        )

    @cached_property
    def _first_column(self) -> dict[tuple[str, int], int]:
        found, at = {}, 1
        for word, parts in COST_PARTS.items():
            for bits in self.bits:
                found[word, bits] = at
                at += len(parts)
        return found

    def cost_vector(self, kernels: Iterable[Kernel]) -> Floats:
        """[k] What these kernels have of every column but `fixed`, which is 0."""
        found = [0.0] * len(self.names)
        for kernel in kernels:
            word, at = self.kernel_class(kernel), self.first_column_of(kernel)
            found[at] += 1
            found[at + 1] += (kernel.input_bytes + kernel.output_bytes) / 1e6
            if word in _WEIGHTED_CLASSES:
                macs = self._padded_mmacs(kernel)
                found[at + 2] += kernel.weight_bytes / 1e6
                found[at + 3] += macs
                if kernel.in_channels % self.block or kernel.out_channels % self.block:
                    found[at + 4] += macs
                if kernel.out_channels <= self.block:
                    found[at + 5] += macs
                found[at + 6] += _mtaps(kernel)
                if not _CURVED_ACTIVATION_OPS.isdisjoint(kernel.operators):
                    found[self._first_column["curve", self._round_up_bits(kernel.bits)] + 1] += (
                        kernel.output_bytes / 1e6
                    )
        return np.array(found)

    def design_matrix(self, kernels_per_model: Sequence[Iterable[Kernel]]) -> Floats:
        """[n, k] The rows of several nets, with 1 in `fixed`."""
        found = np.array([self.cost_vector(kernels) for kernels in kernels_per_model]).reshape(
            len(kernels_per_model), len(self.names)
        )
        found[:, 0] = 1
        return found

    def first_column_of(self, kernel: Kernel) -> int:
        """Number of the first column of the kernel's class and bit-width, its launches."""
        return self._first_column[self.kernel_class(kernel), self._round_up_bits(kernel.bits)]

    def kernel_class(self, kernel: Kernel) -> str:
        """The word of the kernel's class."""
        if kernel.kind == "conv" and kernel.in_channels < self.block:
            return "stem"
        if kernel.kind == "elementwise" and not _ERF_OPS.isdisjoint(kernel.operators):
            return "erf"
        if kernel.kind == "elementwise" and not _CURVED_ACTIVATION_OPS.isdisjoint(kernel.operators):
            return "curve"
        if kernel.kind == "pool" and kernel.bits == 8:
            return next((_SCALAR_POOL_CLASS[o] for o in kernel.operators if o in _SCALAR_POOL_CLASS), "pool")
        return kernel.kind

    def _padded_mmacs(self, kernel: Kernel) -> float:
        """Millions of multiply-accumulates in full blocks. Fewer input channels than a block are not padded."""
        macs = padded_macs(kernel, self.block) / 1e6
        short = kernel.in_channels / kernel.groups
        return macs * short / self.block if kernel.kind in {"conv", "pointwise"} and short < self.block else macs

    def _round_up_bits(self, bits: int) -> int:
        return min((b for b in self.bits if b >= bits), default=self.bits[-1])


def _mtaps(kernel: Kernel) -> float:
    """Millions of output positions times positions of the window."""
    return kernel.macs * kernel.groups / max(1, kernel.in_channels * kernel.out_channels) / 1e6


def columns_for(profile: HardwareProfile) -> CostColumns:
    """The columns of a device: its precisions, and its fact `block` where it states one, else its channel multiple."""
    return CostColumns(bits=profile.precisions, block=int(profile.facts.get("block", profile.channel_multiple)))


def tie_matrices(profile: HardwareProfile, columns: CostColumns) -> list[Floats]:
    """Prior structures [k, t] in microseconds: what the profile says a unit of each column costs, split into parts.

    From coarse to fine. The first has a multiplier for each part (fixed, launches, traffic, arithmetic ...). The second
    tells convolutions that fill the arithmetic units, depthwise and grouped ones, and kernels that only move data
    apart, and each bit-width; the third every kind of convolution.
    """
    price = profile_coefficients_us(profile, columns)
    return [tie_matrix(price, columns.names, group) for group in (_by_cost_part, _by_kernel_group, _by_kernel_kind)]


def profile_coefficients_us(profile: HardwareProfile, columns: CostColumns) -> Floats:
    """[k] Microseconds that the profile says a unit of each column costs; only their ratios matter where it assumes."""
    model = profile.latency or _DEFAULT_LATENCY_MODEL
    return np.array([_profile_coefficient_us(name, profile, model) for name in columns.names])


def tie_matrix(coefficients_us: Floats, names: Sequence[str], group: Callable[[str], str]) -> Floats:
    """[k, t] The prices split into the parts that `group` gives each column's name, in the order they occur."""
    words = list(dict.fromkeys(group(name) for name in names))
    found = np.zeros((len(coefficients_us), len(words)))
    for i, name in enumerate(names):
        found[i, words.index(group(name))] = coefficients_us[i]
    return found


def by_launch_and_kernel_group(name: str) -> str:
    """The launches of all kernels, and the rest of each sort."""
    part = _by_cost_part(name)
    return part if part in {FIXED, "launch"} else _by_kernel_group(name).partition(".")[0]


def _by_cost_part(name: str) -> str:
    return name.rpartition(".")[2]


def _by_kernel_group(name: str) -> str:
    kind, bits, part = _parse_column_name(name)
    if kind in {"depthwise", "grouped", "unblocked"}:
        return f"sparse{bits}.{part}"
    return f"{'dense' if kind in _WEIGHTED_CLASSES else 'moving'}{bits}.{part}" if kind else name


def _by_kernel_kind(name: str) -> str:
    kind, bits, part = _parse_column_name(name)
    if not kind or kind in _WEIGHTED_CLASSES:
        return name
    return f"{'curve' if kind in {'curve', 'erf'} else 'moving'}{bits}.{part}"


def _parse_column_name(name: str) -> tuple[str, str, str]:
    """Kind, bits and part of a column's name; `fixed` has only the last."""
    kernel, _, part = name.rpartition(".")
    kind = kernel.rstrip("0123456789")
    return kind, kernel[len(kind) :], part


def _profile_coefficient_us(name: str, profile: HardwareProfile, model: LatencyModel) -> float:
    """Microseconds of one unit of a column."""
    kind, bits, part = _parse_column_name(name)
    if part == FIXED:
        return model.fixed_us
    if part == "launch":
        return model.floor_us
    if part in {"mbyte", "weights"}:
        return 1e3 / (profile.bandwidth_gb_s * model.efficiency.get("memory", 1.0))
    if part == "taps":
        return _POINTER_BYTES * 1e3 / profile.bandwidth_gb_s
    rate = peak_gops(profile, int(bits)) * model.efficiency.get(_EFFICIENCY_KEY.get(kind, kind), 1.0)
    return 2e3 / rate * _MACS_SURCHARGE.get(part, 1.0)
