"""Speed-up of an INT8 net over its FP32 baseline, timed side by side; a net that is not faster ships as the baseline.

Quantisation slows down small nets and nets of depthwise convolutions on most devices: their arithmetic is cheap
already, and each border between integers and floats costs a kernel.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from nas.errors import MeasureError
from nas.latency.latency import Latency

NO_GAIN = "no_gain"
"""Name of the constraint that an INT8 net violates when it is no faster than its FP32 baseline."""


@dataclass(frozen=True, kw_only=True)
class Int8Speedup:
    """How much faster an INT8 net is than its FP32 baseline, both timed in one interleaved run or both predicted.

    Attributes:
        speedup: latency of the baseline divided by that of the net; above 1 the net is faster.
        low: lower end of the 95 % interval of `speedup`; `speedup` itself for predictions, whose errors are common to
            both.
        high: upper end of it.
        twin_ms: latency of the FP32 baseline in milliseconds. The name is stored in records.
        own_ms: latency of the INT8 net in milliseconds.
        kind: "measured" or "predicted".
    """

    speedup: float
    low: float
    high: float
    twin_ms: float
    own_ms: float
    kind: str

    def __post_init__(self) -> None:
        """Question each number where it enters a record.

        Raises:
            MeasureError: one is not positive or not finite.
        """
        for name in ("speedup", "low", "high", "twin_ms", "own_ms"):
            if not 0 < getattr(self, name) < math.inf:
                raise MeasureError(f"{name} must be finite and above 0, but is {getattr(self, name)}")

    @property
    def is_faster(self) -> bool:
        """Whether the whole interval is above 1."""
        return self.low > 1

    @property
    def violation(self) -> float:
        """How far `low` misses 1, as a share; zero or less where INT8 pays."""
        return 1 / self.low - 1

    def __str__(self) -> str:
        # Part of the reasons in records, so the words stay as they are.
        verdict = f"{self.speedup:.2f} times as fast" if self.is_faster else "no gain"
        return f"{verdict}: {self.own_ms:.4g} ms against {self.twin_ms:.4g} ms of its float twin, {self.kind}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return asdict(self)


def int8_speedup(quantised: Latency, fp32_baseline: Latency) -> Int8Speedup:
    """Compare a net with its baseline.

    The interval divides the ends of both: wider than a 95 % interval of the ratio, so the verdict errs towards FP32.

    Args:
        quantised: latency of the INT8 net.
        fp32_baseline: latency of the same net in FP32, of the same kind.

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
