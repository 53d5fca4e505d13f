"""Choice of each unit's bit-width by measured gain: a unit is narrow only where that makes the file faster.

1. Files with all units narrow but one are timed side by side. This ranks the units by what they gain within their
   neighbourhood, borders between integers and floats included.
2. Units become wide one after the other, those that gain least first, and all of these files are timed side by side. Of
   the plans within 2 % of the fastest one, the one with the fewest narrow units is taken, because a narrow unit without
   a gain could only cost accuracy.
3. Each unit that became wide is tried narrow again in that plan, and is narrow if it gains more than 2 % there: the
   order of the second step may have been wrong.
4. The outcome must be faster than the wide file with its whole interval, or the wide file is the outcome.

Gains are ratios of 5th percentiles, which repeat best on a machine that does other work too. Where other work slows the
reference network by more than 10 % all the same, single units cannot be judged: the stem and the head then stay wide,
which is the usual outcome, and the choice says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nas.latency.int8_speedup import Int8Speedup, int8_speedup
from nas.latency.latency import Latency
from nas.post_training.bits import BitsPlan
from search_spaces._base import HEAD, STEM

MIN_GAIN = 0.02
"""Gain as a share that is no noise: 5th percentiles of files that are timed side by side repeat within 1 %."""

MAX_SLOWDOWN = 0.1
"""Slowdown of the reference network beside the files, as a share, up to which single units are judged."""

TimePlans = Callable[[Sequence[BitsPlan]], Sequence[Latency]]
"""Times one file for each plan, side by side."""


@dataclass(frozen=True, kw_only=True)
class PrecisionChoice:
    """The chosen plan, and why.

    Attributes:
        plan: bit-width of every unit.
        gains: for each unit that was free, how much faster the file gets by it, beside the units that gain more.
        whole: the chosen plan, or that of narrow units alone where none is chosen, against the wide one; None where
            nothing was timed.
        was_disturbed: whether the machine was too busy to judge single units.
    """

    plan: BitsPlan
    gains: Mapping[str, Int8Speedup] = field(default_factory=dict)
    whole: Int8Speedup | None = None
    was_disturbed: bool = False


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

    all_wide = make_plan(())
    if narrow == wide or not free:
        return PrecisionChoice(plan=all_wide)
    choice = _choose_by_gain(free, make_plan, time_plans)
    if choice is not None:
        return choice
    usual = make_plan([unit for unit in free if unit not in (STEM, HEAD)])
    wide_latency, own = time_plans([all_wide, usual])
    whole = int8_speedup(own, wide_latency)
    return PrecisionChoice(plan=usual if whole.is_faster else all_wide, whole=whole, was_disturbed=True)


def _choose_by_gain(
    free: Sequence[str], make_plan: Callable[[Sequence[str]], BitsPlan], time_plans: TimePlans
) -> PrecisionChoice | None:
    """The steps of this module's docstring; None where the machine was too busy for one of them."""
    one_wide = [make_plan([other for other in free if other != unit]) for unit in free]
    if _is_disturbed(others := time_plans(one_wide)):
        return None
    ranked = [unit for _, unit in sorted(zip((other.robust_ms for other in others), free, strict=True))]
    plans = [make_plan(ranked[i:]) for i in range(len(ranked) + 1)]  # from all narrow to all wide
    if _is_disturbed(latencies := time_plans(plans)):
        return None
    gains = {unit: robust_speedup(latencies[i], latencies[i + 1]) for i, unit in enumerate(ranked)}
    limit_ms = min(latency.robust_ms for latency in latencies) * (1 + MIN_GAIN)
    i = max(i for i, latency in enumerate(latencies) if latency.robust_ms <= limit_ms)
    dropped, narrow_units = ranked[:i], ranked[i:]
    chosen, base, wide_latency = plans[i], latencies[i if narrow_units else 0], latencies[-1]
    if dropped and narrow_units:
        again = [make_plan([*narrow_units, unit]) for unit in dropped]
        if _is_disturbed(timed := time_plans([plans[-1], chosen, *again])):
            return None
        wide_latency, base, *others = timed
        gains |= {unit: robust_speedup(own, base) for unit, own in zip(dropped, others, strict=True)}
        chosen = make_plan([*narrow_units, *(unit for unit in dropped if gains[unit].speedup > 1 + MIN_GAIN)])
    whole = int8_speedup(base, wide_latency)
    return PrecisionChoice(plan=chosen if whole.is_faster else plans[-1], gains=gains, whole=whole)


def _is_disturbed(latencies: Sequence[Latency]) -> bool:
    return any((latency.slowdown or 0.0) > MAX_SLOWDOWN for latency in latencies)


def robust_speedup(own: Latency, other: Latency) -> Int8Speedup:
    """How much faster one file is than another by their 5th percentiles; the interval has the width of the medians'."""
    return int8_speedup(_at_p5(own), _at_p5(other))


def _at_p5(latency: Latency) -> Latency:
    scale = latency.robust_ms / latency.latency_ms
    return replace(
        latency, latency_ms=latency.robust_ms, low_ms=latency.low_ms * scale, high_ms=latency.high_ms * scale
    )
