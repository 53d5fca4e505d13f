"""Constraints of a search: the violation of each by a candidate, and their description."""

from collections.abc import Mapping, Sequence

from nas.config import LimitFields
from nas.latency.int8_speedup import NO_GAIN, Int8Speedup
from nas.latency.latency import Latency, corrected_for_load

_VERBS = {"min_accuracy": "missed"}


def violations(
    limits: LimitFields,
    objectives: Sequence[str],
    *,
    latency: Latency | None,
    size_bytes: int | None,
    memory_bytes: int | None = None,
    accuracy: float | None = None,
    int8_speedup: Int8Speedup | None = None,
) -> dict[str, float]:
    """Violation of each constraint; zero or less satisfies it.

    Latency, size and memory give the share of the limit by which they exceed it, accuracy the difference to it, and
    INT8 the share of the FP32 baseline's latency that is missing; layers that fall back from a DLA are counted beyond
    the limit. Figures that are None are left out.

    Args:
        limits: upper limits of latency, size and memory, lower limit of accuracy.
        objectives: of the search. With "size" among them, INT8 need not be faster: the smaller file is a gain itself.
        latency: on the target. The load of a busy machine is subtracted first, so that it violates no limit.
        size_bytes: of the file.
        memory_bytes: weights and activations of one inference.
        accuracy: on the selection split, 0..1.
        int8_speedup: of the candidate against its FP32 baseline; None where nothing is in INT8.
    """
    found = {}
    if latency and limits.max_latency:
        found["max_latency"] = corrected_for_load(latency).latency_ms / limits.max_latency - 1
    if size_bytes and limits.max_size:
        found["max_size"] = size_bytes / limits.max_size - 1
    if memory_bytes and limits.max_memory:
        found["max_memory"] = memory_bytes / limits.max_memory - 1
    if latency and latency.dla_fallback is not None and limits.max_dla_fallback is not None:
        found["max_dla_fallback"] = float(latency.dla_fallback - limits.max_dla_fallback)
    if accuracy is not None and limits.min_accuracy:
        found["min_accuracy"] = limits.min_accuracy - accuracy
    if int8_speedup is not None and "size" not in objectives:
        found[NO_GAIN] = int8_speedup.violation
    return found


def describe_violations(violation_by_name: Mapping[str, float], int8_speedup: Int8Speedup | None) -> str:
    """The violated constraints in words, separated by semicolons; empty where all are satisfied.

    Args:
        violation_by_name: what `violations` returned.
        int8_speedup: the one that was given there; needed where the constraint on INT8 is violated.
    """
    return "; ".join(_describe(name, share, int8_speedup) for name, share in violation_by_name.items() if share > 0)


def _describe(name: str, share: float, int8_speedup: Int8Speedup | None) -> str:
    if name == NO_GAIN:
        return f"8 bits: {int8_speedup}"
    if name == "max_dla_fallback":
        return f"{name} exceeded by {share:.0f} layer{'s' if share != 1 else ''}"
    return f"{name} {_VERBS.get(name, 'exceeded')} by {share:.1%}"
