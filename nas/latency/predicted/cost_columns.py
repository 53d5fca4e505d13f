"""Cost columns: amount of each kind of cost in a net, and the coefficients that a hardware profile implies.

For each class of kernels and bit-width the columns of the additive model are

- `launch`: number of kernels, and `mbyte`: megabytes of activations;

and for classes with arithmetic also

- `weights`: megabytes of weights;
- `mmac`: millions of multiply-accumulates with channels rounded up to the block;
- `misaligned`: those of layers whose channels do not fill the block;
- `narrow`: those of layers with no more output channels than one block;
- `taps`: millions of output positions times positions of the window; integer convolutions gather each before they
  multiply.

One more column, `fixed`, is 1 for every net. A class is a kind of kernel, with four exceptions, because nothing else
explains their time: convolutions whose inputs do not fill a block (the first of a net), curved activations, activations
with an error function, and integer poolings without a vector form. A curve that is fused into a convolution adds its
traffic to the class of curves, and no launch.
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
_SCALAR_POOL_CLASS = {"QLinearAveragePool": "average", "MaxPool": "maximum"}
"""INT8 poolings that ONNX Runtime computes element by element."""
_POINTER_BYTES = 8
"""Size of the pointer by which ONNX Runtime's integer convolutions gather a tap (indirection buffer)."""

_MACS_SURCHARGE = {"misaligned": 0.1, "narrow": 0.3}
"""Prior cost of arithmetic that does not fill a block, as a share of the same arithmetic; the fit scales it."""
_EFFICIENCY_KEY = {"stem": "conv", "unblocked": "grouped"}
"""Efficiency of a profile that a class uses, where it is not its own."""

# Typical of small convolutions on processors. Only the ratios matter: the multipliers of a tie bring the scale.
_DEFAULT_LATENCY_MODEL = LatencyModel(
    fixed_us=5,
    floor_us=2,
    efficiency={"conv": 0.5, "pointwise": 0.4, "depthwise": 0.1, "grouped": 0.2, "linear": 0.2},
    relative_error=0.9,
    source="assumed",
)


@dataclass(frozen=True)
class CostColumns:
    """Columns of one device.

    Attributes:
        bits: bit-widths of arithmetic on the device, ascending; a kernel counts at the next wider one.
        block: channels that the device computes at once; channels are rounded up to multiples of it.
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
        """Index of the first column of each class and bit-width; `fixed` has index 0."""
        first, column = {}, 1
        for word, parts in COST_PARTS.items():
            for bits in self.bits:
                first[word, bits] = column
                column += len(parts)
        return first

    def cost_vector(self, kernels: Iterable[Kernel]) -> Floats:
        """[k] Amount of every column in these kernels; `fixed` is 0."""
        row = [0.0] * len(self.names)  # a list: faster than an array, element by element
        for kernel in kernels:
            word, at = self.kernel_class(kernel), self.first_column_of(kernel)
            # The offsets follow the order of the parts in COST_PARTS.
            row[at] += 1
            row[at + 1] += (kernel.input_bytes + kernel.output_bytes) / 1e6
            if word in _WEIGHTED_CLASSES:
                mmacs = self._padded_mmacs(kernel)
                row[at + 2] += kernel.weight_bytes / 1e6
                row[at + 3] += mmacs
                if kernel.in_channels % self.block or kernel.out_channels % self.block:
                    row[at + 4] += mmacs
                if kernel.out_channels <= self.block:
                    row[at + 5] += mmacs
                row[at + 6] += _mtaps(kernel)
                if not _CURVED_ACTIVATION_OPS.isdisjoint(kernel.operators):
                    curve = self._first_column["curve", self._round_up_bits(kernel.bits)]
                    row[curve + 1] += kernel.output_bytes / 1e6
        return np.array(row)

    def design_matrix(self, kernels_per_model: Sequence[Iterable[Kernel]]) -> Floats:
        """[n, k] Rows of several nets, with 1 in `fixed`."""
        rows = [self.cost_vector(kernels) for kernels in kernels_per_model]
        matrix = np.array(rows).reshape(len(rows), len(self.names))  # also for no nets
        matrix[:, 0] = 1
        return matrix

    def first_column_of(self, kernel: Kernel) -> int:
        """Index of the first column of the kernel's class and bit-width, which counts launches."""
        return self._first_column[self.kernel_class(kernel), self._round_up_bits(kernel.bits)]

    def kernel_class(self, kernel: Kernel) -> str:
        """Name of the kernel's class."""
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
        """Millions of multiply-accumulates in full blocks.

        Fewer input channels than a block are not padded: kernels for such a stem loop over the channels that exist.
        """
        macs = padded_macs(kernel, self.block) / 1e6
        short = kernel.in_channels / kernel.groups
        return macs * short / self.block if kernel.kind in {"conv", "pointwise"} and short < self.block else macs

    def _round_up_bits(self, bits: int) -> int:
        return min((b for b in self.bits if b >= bits), default=self.bits[-1])


def _mtaps(kernel: Kernel) -> float:
    """Millions of output positions times positions of the window, of all groups: MACs without their channels."""
    return kernel.macs * kernel.groups / max(1, kernel.in_channels * kernel.out_channels) / 1e6


def columns_for(profile: HardwareProfile) -> CostColumns:
    """Columns of a device: its precisions, and its fact `block` where stated, else its channel multiple."""
    return CostColumns(bits=profile.precisions, block=int(profile.facts.get("block", profile.channel_multiple)))


def tie_matrices(profile: HardwareProfile, columns: CostColumns) -> list[Floats]:
    """Ties [k, t] of a profile: its microseconds for one unit of each column, split into parts, from coarse to fine.

    1. A multiplier for each part (fixed, launches, traffic, arithmetic, ...).
    2. Apart as well: dense convolutions, depthwise and grouped ones, kernels that only move data; and each bit-width.
    3. Apart as well: every kind of convolution.
    """
    prior_us = profile_coefficients_us(profile, columns)
    return [tie_matrix(prior_us, columns.names, group) for group in (_by_cost_part, _by_kernel_group, _by_kernel_kind)]


def profile_coefficients_us(profile: HardwareProfile, columns: CostColumns) -> Floats:
    """[k] Microseconds of one unit of each column by the profile; without a latency model only their ratios matter."""
    model = profile.latency or _DEFAULT_LATENCY_MODEL
    return np.array([_profile_coefficient_us(name, profile, model) for name in columns.names])


def tie_matrix(coefficients_us: Floats, names: Sequence[str], group: Callable[[str], str]) -> Floats:
    """[k, t] The coefficients, each in the column of its part, in order of first occurrence.

    Args:
        coefficients_us: [k] microseconds of one unit of each column.
        names: names of the columns.
        group: part of a column, by its name.
    """
    words = list(dict.fromkeys(group(name) for name in names))
    tie = np.zeros((len(coefficients_us), len(words)))
    for i, name in enumerate(names):
        tie[i, words.index(group(name))] = coefficients_us[i]
    return tie


def by_launch_and_kernel_group(name: str) -> str:
    """Part of a column for coefficients fitted to kernels: `fixed`, all launches, and all else by group of kernels.

    The profiler inflates every launch alike, so launches have one factor of their own.
    """
    part = _by_cost_part(name)
    return part if part in {FIXED, "launch"} else _by_kernel_group(name).partition(".")[0]


def _by_cost_part(name: str) -> str:
    return name.rpartition(".")[2]


def _by_kernel_group(name: str) -> str:
    kind, bits, part = _parse_column_name(name)
    if kind in {"depthwise", "grouped", "unblocked"}:  # their channels do not fill the arithmetic units
        return f"sparse{bits}.{part}"
    return f"{'dense' if kind in _WEIGHTED_CLASSES else 'moving'}{bits}.{part}" if kind else name


def _by_kernel_kind(name: str) -> str:
    kind, bits, part = _parse_column_name(name)
    if not kind or kind in _WEIGHTED_CLASSES:
        return name
    return f"{'curve' if kind in {'curve', 'erf'} else 'moving'}{bits}.{part}"


def _parse_column_name(name: str) -> tuple[str, str, str]:
    """Class, bits and part of the name of a column; `fixed` has only a part."""
    kernel, _, part = name.rpartition(".")
    kind = kernel.rstrip("0123456789")
    return kind, kernel[len(kind) :], part


def _profile_coefficient_us(name: str, profile: HardwareProfile, model: LatencyModel) -> float:
    """Microseconds of one unit of a column: a launch, a megabyte, a million multiply-accumulates or taps."""
    kind, bits, part = _parse_column_name(name)
    if part == FIXED:
        return model.fixed_us
    if part == "launch":
        return model.floor_us
    if part in {"mbyte", "weights"}:
        # A megabyte at 10^9 bytes a second is 10^3 microseconds.
        return 1e3 / (profile.bandwidth_gb_s * model.efficiency.get("memory", 1.0))
    if part == "taps":
        return _POINTER_BYTES * 1e3 / profile.bandwidth_gb_s
    rate = peak_gops(profile, int(bits)) * model.efficiency.get(_EFFICIENCY_KEY.get(kind, kind), 1.0)
    # 2 operations x 10^6 in microseconds at 10^9 operations a second
    return 2e3 / rate * _MACS_SURCHARGE.get(part, 1.0)
