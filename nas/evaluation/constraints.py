"""The limits of a search: which of them a candidate breaks, by how much, and how that reads."""

from collections.abc import Mapping

from nas.config import SearchConfig
from nas.latency.estimate import Latency, corrected_for_load
from nas.latency.speedup import NO_GAIN, Int8Speedup

_VERBS = {"min_accuracy": "missed"}


def violations(
    config: SearchConfig,
    *,
    latency: Latency | None,
    size_bytes: int | None,
    accuracy: float | None = None,
    int8_speedup: Int8Speedup | None = None,
) -> dict[str, float]:
    """Constraint to the share by which it is broken; zero or less is kept. What is not known yet is left out.

    Args:
        config: whose limits they are.
        latency: on the target; no candidate breaks a limit because the machine was busy.
        size_bytes: of the file.
        accuracy: on the selection split, 0..1.
        gained: what 8-bit units gain over the float twin: they must pay, unless a smaller file is a gain as well.
    """
    found = {}
    if latency and config.limits.max_latency:
        found["max_latency"] = corrected_for_load(latency).latency_ms / config.limits.max_latency - 1
    if size_bytes and config.limits.max_size:
        found["max_size"] = size_bytes / config.limits.max_size - 1
    if accuracy is not None and config.limits.min_accuracy:
        found["min_accuracy"] = config.limits.min_accuracy - accuracy
    if int8_speedup is not None and "size" not in config.search.objectives:
        found[NO_GAIN] = int8_speedup.violation
    return found


def describe_violations(broken: Mapping[str, float], int8_speedup: Int8Speedup | None) -> str:
    """The constraints that are broken, in words; empty where all are kept."""
    return "; ".join(
        f"8 bits: {int8_speedup}" if name == NO_GAIN else f"{name} {_VERBS.get(name, 'exceeded')} by {share:.1%}"
        for name, share in broken.items()
        if share > 0
    )
