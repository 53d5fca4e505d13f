"""Fit of the analytic roofline's constants (`nas.latency.predicted.roofline`) to latencies of whole nets.

The constants of a board are the microseconds of an inference outside kernels, the floor of a kernel, and the reached
shares of the peak rates. The floor is much the same on boards of very different clocks, so it carries over unchanged.
The fit minimises the mean absolute logarithmic error plus a quadratic pull towards a prior, since a few nets do not
determine all constants. It is a pattern search over the logarithms, one constant at a time (Hooke and Jeeves, Journal
of the ACM 8(2), 1961).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas.latency.costs import Costs
from nas.latency.predicted.arithmetic import padded_macs, peak_gops

Floats = npt.NDArray[np.float64]
Constants = Floats  # logarithms, in the order of NAMES

KINDS = ("conv", "pointwise", "depthwise", "grouped")
NAMES = ("fixed_us", "floor_us", *KINDS, "memory")
START: Constants = np.log([30.0, 16.0, 0.35, 0.25, 0.01, 0.1, 0.5])
MOST: Constants = np.log([300.0, 60.0, 1.0, 1.0, 1.0, 1.0, 1.0])
PULL = np.array(
    [0.06, 0.06, 0.015, 0.015, 0.015, 0.06, 0.15]
)  # weight per squared logarithm; larger where nets determine little
STEPS = (0.5, 0.2, 0.08, 0.03)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Kernels of several nets on one board, concatenated.

    Attributes:
        starts: [nets] index of each net's first kernel.
        work_us: [kernels] microseconds of arithmetic at the full peak rate.
        kind: [kernels] index of the kernel's kind in `KINDS`.
        traffic_us: [kernels] microseconds of memory traffic at the full bandwidth.
        published_us: [nets] published latency.
    """

    starts: npt.NDArray[np.int_]
    work_us: Floats
    kind: npt.NDArray[np.int_]
    traffic_us: Floats
    published_us: Floats


def samples(rows: Sequence[tuple[Costs, HardwareProfile, float]]) -> Samples:
    """Samples from nets on one board with their published latencies in milliseconds."""
    profile = rows[0][1]
    kernels = [k for net, _, _ in rows for k in net.kernels]
    counts = [len(net.kernels) for net, _, _ in rows]
    return Samples(
        starts=np.cumsum([0, *counts[:-1]]),
        work_us=np.array(
            [2 * padded_macs(k, profile.channel_multiple) / (peak_gops(profile, k.bits) * 1e3) for k in kernels]
        ),
        kind=np.array([KINDS.index("pointwise" if k.kind == "linear" else k.kind) if k.macs else 0 for k in kernels]),
        traffic_us=np.array(
            [(k.input_bytes + k.output_bytes + k.weight_bytes) / (profile.bandwidth_gb_s * 1e3) for k in kernels]
        ),
        published_us=np.array([published for _, _, published in rows]) * 1e3,
    )


def predict(data: Samples, constants: Constants) -> Floats:
    """Latencies [nets] in milliseconds."""
    values = np.exp(constants)
    per_kernel = values[1] + data.work_us / values[2 + data.kind] + data.traffic_us / values[6]
    latency_ms: Floats = (values[0] + np.add.reduceat(per_kernel, data.starts)) / 1e3
    return latency_ms


def fit(data: Samples, prior: Constants = START) -> Constants:
    """The constants of one board."""

    def loss(constants: Constants) -> float:
        errors = np.abs(np.log(predict(data, constants) * 1e3 / data.published_us))
        return float(errors.mean() + (PULL * (constants - prior) ** 2).sum())

    best, least = prior.copy(), loss(prior)
    for step in STEPS:
        improved = True
        while improved:
            improved = False
            for i in range(len(NAMES)):
                for change in (step, -step):
                    trial = best.copy()
                    trial[i] = min(trial[i] + change, MOST[i])
                    value = loss(trial)
                    if value < least - 1e-6:  # a smaller gain is rounding, and could cycle
                        best, least, improved = trial, value, True
    return best


def fit_boards(boards: Mapping[str, Samples]) -> dict[str, Constants]:
    """The constants of each board, fitted alone, then again with the median over the boards as the prior."""
    alone = [fit(data) for data in boards.values()]
    prior = np.median(alone, axis=0)
    return {board: fit(data, prior) for board, data in boards.items()}


def pooled(boards: Mapping[str, Constants]) -> Constants:
    """The constants for a board without figures: the median of each constant."""
    medians: Constants = np.median(list(boards.values()), axis=0)
    return medians


def describe(constants: Constants) -> dict[str, float]:
    """The constants in the form of a profile."""
    return {name: float(f"{value:.3g}") for name, value in zip(NAMES, np.exp(constants), strict=True)}
