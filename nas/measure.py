"""A latency is a statement, not a number: value, interval, where and how. And the one timing loop that makes them."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

MeasurementKind = Literal["measured", "predicted"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
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
        notes: what a reader has to know ("busy machine: drift 5 %").
        versions: names and versions of what ran it, or of the model that predicted it.
    """

    kind: MeasurementKind
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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Measurement":
        """The inverse of `to_dict`, also after a JSON round trip."""
        return cls(**{**fields, "notes": tuple(fields.get("notes", ()))})
