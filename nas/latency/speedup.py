"""INT8 must pay: a quantised net is timed beside its own float twin, and where it is not faster the twin ships.

Quantising a net that is small or made of depthwise convolutions makes it slower on most devices: its arithmetic is
cheap already, and every border between integers and floats costs a kernel.
"""

from dataclasses import asdict, dataclass
from typing import Any

from nas.latency.estimate import Latency

NO_GAIN = "no_gain"
"""Constraint that 8-bit units break when they make a net no faster than its float twin."""


@dataclass(frozen=True, kw_only=True)
class Int8Speedup:
    """How much faster a net is than its float twin, both timed in one interleaved run or both predicted.

    Attributes:
        speedup: the twin's latency by the net's own; above 1 the net is faster.
        low: lower end of the 95 % interval of `speedup`; the value itself for predictions, whose errors are common to
            both.
        high: upper end.
        twin_ms: the twin's latency in milliseconds.
        own_ms: the net's own.
        kind: "measured" or "predicted".
    """

    speedup: float
    low: float
    high: float
    twin_ms: float
    own_ms: float
    kind: str

    @property
    def is_faster(self) -> bool:
        """Whether the net is faster than its twin beyond the intervals."""
        return self.low > 1

    @property
    def violation(self) -> float:
        """By how much the net misses being faster, as a share; zero or less where it pays."""
        return 1 / self.low - 1

    def __str__(self) -> str:
        verdict = f"{self.speedup:.2f} times as fast" if self.is_faster else "no gain"
        return f"{verdict}: {self.own_ms:.4g} ms against {self.twin_ms:.4g} ms of its float twin, {self.kind}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def int8_speedup(quantised: Latency, fp32_baseline: Latency) -> Int8Speedup:
    """What quantisation gains, from both latencies of one kind.

    Raises:
        ValueError: one is measured and the other predicted.
    """
    if quantised.kind != fp32_baseline.kind:
        raise ValueError(f"both latencies must be of one kind, but got {quantised.kind} and {fp32_baseline.kind}")
    speedup = fp32_baseline.latency_ms / quantised.latency_ms
    measured = quantised.kind == "measured"
    return Int8Speedup(
        speedup=speedup,
        low=fp32_baseline.low_ms / quantised.high_ms if measured else speedup,
        high=fp32_baseline.high_ms / quantised.low_ms if measured else speedup,
        twin_ms=fp32_baseline.latency_ms,
        own_ms=quantised.latency_ms,
        kind=quantised.kind,
    )
