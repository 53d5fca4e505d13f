"""A latency as a statement: value, interval, where and how; and what it would be on a machine at its best."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

LatencyKind = Literal["measured", "predicted"]

MAX_REFERENCE_SLOWDOWN = 0.03
"""How much slower than at its best the reference network may be beside a round that counts."""
OPTIONAL_FIELDS = frozenset({"energy_mj", "layers", "slowdown"})
"""Fields that are left out of JSON where they hold nothing."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One latency with its provenance. All times are milliseconds for one inference of one image.

    Attributes:
        kind: `measured` on the device named, or `predicted` by a model of it.
        device: what it was measured on or predicted for, in words.
        runtime: word of the runtime.
        latency_ms: the median of the runs, or the prediction.
        low_ms: lower end of the 95 % interval of `latency_ms`.
        high_ms: upper end of it.
        p5_ms: 5th percentile of the runs, the figure that repeats on a shared machine; None when predicted.
        p99_ms: 99th percentile of the runs; None when predicted.
        runs: how many runs were timed; 0 when predicted.
        threads: threads the runtime was given.
        drift: relative change of the reference network around the measurement; None when predicted.
        slowdown: how much slower the reference network was than at its best on this machine, as a share; None where
            nobody looked.
        notes: what a reader has to know ("busy machine: ...").
        versions: names and versions of what ran it and the state of the device, or of the model that predicted it.
        energy_mj: millijoules of one inference above idle; None where nothing measured them.
        layers: name and milliseconds of each layer that the device executed, in order; empty when not asked for.
    """

    kind: LatencyKind
    device: str
    runtime: str
    latency_ms: float
    low_ms: float
    high_ms: float
    p5_ms: float | None = None
    p99_ms: float | None = None
    runs: int = 0
    threads: int = 1
    drift: float | None = None
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    energy_mj: float | None = None
    layers: tuple[tuple[str, float], ...] = ()
    slowdown: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what is optional and not there is left out."""
        fields = asdict(self)
        return {k: v for k, v in fields.items() if k not in OPTIONAL_FIELDS or v not in (None, ())}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Latency":
        """The inverse of `to_dict`, also after a JSON round trip; fields of a later version are ignored."""
        known = {k: v for k, v in fields.items() if k in cls.__dataclass_fields__}
        layers = tuple((str(name), float(ms)) for name, ms in fields.get("layers", ()))
        return cls(**{**known, "notes": tuple(fields.get("notes", ())), "layers": layers})


def corrected_for_load(latency: Latency) -> Latency:
    """What a latency would have been on this machine at its best: shorter by the slowdown of the reference network.

    As it is where the machine was calm, where nobody looked, and where it was predicted.
    """
    slower = latency.slowdown or 0.0
    if slower <= MAX_REFERENCE_SLOWDOWN:
        return latency
    low_ms, ms, high_ms = (value / (1 + slower) for value in (latency.low_ms, latency.latency_ms, latency.high_ms))
    return replace(latency, latency_ms=ms, low_ms=low_ms, high_ms=high_ms)
