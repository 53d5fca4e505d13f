"""Choice of each unit's bit-width by measured gain: a unit is narrow only where that makes the file faster.

Timed side by side are the wide file, the file with all units narrow, and for each unit the narrow file with that unit
wide. The difference to the narrow file is what the unit gains within its neighbourhood, borders between integers and
floats included. From this come two plans with fewer narrow units: those that gain more than 2 %, and those that gain at
all. Of the plans within 2 % of the fastest one, the one with the fewest narrow units is taken, because a narrow unit
without a gain could only cost accuracy. It must be faster than the wide file with its whole interval, or the wide file
is the outcome.

Gains are ratios of 5th percentiles, which repeat best on a machine that does other work too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nas.latency.int8_speedup import Int8Speedup, int8_speedup
from nas.latency.latency import Latency
from nas.post_training.bits import BitsPlan

MIN_GAIN = 0.02
"""Gain as a share that is no noise: 5th percentiles of files that are timed side by side repeat within 1 %."""

TimePlans = Callable[[Sequence[BitsPlan]], Sequence[Latency]]
"""Times one file for each plan, side by side."""


@dataclass(frozen=True, kw_only=True)
class PrecisionChoice:
    """The chosen plan, and why.

    Attributes:
        plan: bit-width of every unit.
        gains: for each unit that was free, how much faster the narrow file is with it than without it.
        whole: the chosen plan against the wide one; None where they are the same.
    """

    plan: BitsPlan
    gains: Mapping[str, Int8Speedup] = field(default_factory=dict)
    whole: Int8Speedup | None = None


def choose_precision(
    units: Sequence[str],
    *,
    narrow: int,
    wide: int,
    time_plans: TimePlans,
    pinned_units: Mapping[str, int] | None = None,
    pinned_layers: Mapping[str, int] | None = None,
) -> PrecisionChoice:
    """The plan whose units are narrow where that is measured to pay.

    Args:
        units: of the model.
        narrow: bit-width to use where it pays.
        wide: bit-width of the rest.
        time_plans: times files.
        pinned_units: units whose bit-width is given.
        pinned_layers: layers whose bit-width is given.
    """
    pins, layers = dict(pinned_units or {}), dict(pinned_layers or {})
    free = [unit for unit in units if unit not in pins]

    def make_plan(narrow_units: Sequence[str]) -> BitsPlan:
        own = {unit: narrow if unit in narrow_units else wide for unit in units}
        return BitsPlan(units=own | pins, layers=layers)

    all_wide, all_narrow = make_plan(()), make_plan(free)
    if narrow == wide or not free:
        return PrecisionChoice(plan=all_wide)
    one_wide = [make_plan([other for other in free if other != unit]) for unit in free]
    wide_latency, narrow_latency, *others = time_plans([all_wide, all_narrow, *one_wide])
    gains = {unit: robust_speedup(narrow_latency, other) for unit, other in zip(free, others, strict=True)}
    certain = [unit for unit in free if gains[unit].speedup > 1 + MIN_GAIN]
    likely = [unit for unit in free if gains[unit].speedup > 1]
    # Narrow units that gain nothing one by one may still gain together, so the narrow file remains a candidate.
    plans = [make_plan(narrow_units) for narrow_units in (certain, likely, free) if narrow_units]
    plans = [plan for i, plan in enumerate(plans) if plan not in plans[:i]]
    if len(plans) == 1:
        latencies = [narrow_latency]
    else:
        wide_latency, *latencies = time_plans([all_wide, *plans])
    fastest_ms = min(latency.robust_ms for latency in latencies)
    i = next(i for i, latency in enumerate(latencies) if latency.robust_ms <= fastest_ms * (1 + MIN_GAIN))
    whole = int8_speedup(latencies[i], wide_latency)
    return PrecisionChoice(plan=plans[i] if whole.is_faster else all_wide, gains=gains, whole=whole)


def robust_speedup(own: Latency, other: Latency) -> Int8Speedup:
    """How much faster one file is than another by their 5th percentiles; the interval has the width of the medians'."""
    return int8_speedup(_at_p5(own), _at_p5(other))


def _at_p5(latency: Latency) -> Latency:
    scale = latency.robust_ms / latency.latency_ms
    return replace(
        latency, latency_ms=latency.robust_ms, low_ms=latency.low_ms * scale, high_ms=latency.high_ms * scale
    )
