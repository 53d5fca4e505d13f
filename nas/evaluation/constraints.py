"""The limits of a search: which of them a candidate breaks, by how much, and how that reads."""

from collections.abc import Mapping

from nas.config import SearchConfig
from nas.latency.estimate import Measurement, at_best
from nas.latency.speedup import NO_GAIN, Gain

_VERBS = {"min_accuracy": "missed"}


def violations(
    config: SearchConfig,
    *,
    latency: Measurement | None,
    size_bytes: int | None,
    accuracy: float | None = None,
    gained: Gain | None = None,
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
    if latency and config.max_latency:
        found["max_latency"] = at_best(latency).latency_ms / config.max_latency - 1
    if size_bytes and config.max_size:
        found["max_size"] = size_bytes / config.max_size - 1
    if accuracy is not None and config.min_accuracy:
        found["min_accuracy"] = config.min_accuracy - accuracy
    if gained is not None and "size" not in config.objectives:
        found[NO_GAIN] = gained.violation
    return found


def violation_words(broken: Mapping[str, float], gained: Gain | None) -> str:
    """The constraints that are broken, in words; empty where all are kept."""
    return "; ".join(
        f"8 bits: {gained}" if name == NO_GAIN else f"{name} {_VERBS.get(name, 'exceeded')} by {share:.1%}"
        for name, share in broken.items()
        if share > 0
    )
