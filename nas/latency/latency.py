"""Latency of an inference as a statement: value, interval, provenance, and its correction for a busy machine."""

import sys
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from nas.errors import MeasureError
from nas.runtimes.disturbance import DRIFT_LIMIT

LatencyKind = Literal["measured", "predicted"]

MAX_REFERENCE_SLOWDOWN = DRIFT_LIMIT
"""How much slower than at its best, as a share, the reference network may be around a round that counts."""
OPTIONAL_FIELDS: dict[str, Any] = {
    "energy_mj": None, "layers": (), "slowdown": None, "resident_bytes": None, "batch": 1, "dla_fallback": None,
}  # fmt: skip
"""Fields that JSON omits at these values, so that files written before they existed read the same."""
RECORD_OMITS = ("resident_bytes", "batch", "dla_fallback")
"""Those of them that a record omits too. It has always written the others, and an old record must be written as it was
read."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One latency with its provenance. All times are milliseconds for one inference, of one image where `batch` is 1.

    Attributes:
        kind: `measured` on the named device, or `predicted` by a model of it.
        device: what it was measured on or predicted for, in words.
        runtime: word of the runtime.
        latency_ms: the median of the runs, or the prediction.
        low_ms: lower end of the 95 % interval of `latency_ms`.
        high_ms: upper end of it.
        p5_ms: 5th percentile of the runs, which repeats best on a shared machine; None when predicted.
        p99_ms: 99th percentile of the runs; None when predicted.
        runs: number of timed runs; 0 when predicted.
        threads: threads of the runtime.
        drift: relative change of the reference network across the measurement; None when predicted.
        resident_bytes: memory of the process that ran the file, its interpreter and runtime included; None where it was
            not read.
        batch: images of one inference.
        dla_fallback: layers that fell back from a DLA to the GPU; None where it was not measured on a DLA.
        slowdown: how much slower the reference network was than at its best on this machine, as a share; None where
            the best is unknown.
        notes: caveats for the reader ("busy machine: ...").
        versions: names and versions of the software that ran it and the state of the device, or of the predictor.
        energy_mj: millijoules of one inference above idle; None where nothing measured them.
        layers: name and milliseconds of each executed layer, in order; empty unless requested.
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
    resident_bytes: int | None = None
    batch: int = 1
    dla_fallback: int | None = None

    def __post_init__(self) -> None:
        """Question each number where it enters a record.

        Raises:
            MeasureError: a time is not positive or not finite, or a further figure is impossible.
        """
        times = {"latency_ms": self.latency_ms, "p5_ms": self.p5_ms, "p99_ms": self.p99_ms, "high_ms": self.high_ms}
        for name, ms in times.items():
            if ms is not None and not 0 < ms <= sys.float_info.max:
                raise MeasureError(f"{name} must be finite and above 0, but is {ms}")
        if not 0 <= self.low_ms <= self.high_ms:
            raise MeasureError(f"low_ms must be in [0, high_ms = {self.high_ms}], but is {self.low_ms}")
        if not all(0 <= ms <= sys.float_info.max for _, ms in self.layers):
            raise MeasureError("layers must take a finite time of 0 ms or more each")
        for name, share in (("drift", self.drift), ("slowdown", self.slowdown), ("energy_mj", self.energy_mj)):
            if share is not None and not abs(share) <= sys.float_info.max:  # NaN neither
                raise MeasureError(f"{name} must be finite, but is {share}")
        if self.resident_bytes is not None and self.resident_bytes <= 0:
            raise MeasureError(f"resident_bytes must be above 0, but is {self.resident_bytes}")
        if self.dla_fallback is not None and self.dla_fallback < 0:
            raise MeasureError(f"dla_fallback must not be negative, but is {self.dla_fallback}")
        if self.batch < 1:
            raise MeasureError(f"batch must be at least 1, but is {self.batch}")
        if self.runs < 0 or self.threads < 0:
            raise MeasureError(f"runs and threads must not be negative, but are {self.runs} and {self.threads}")

    @property
    def robust_ms(self) -> float:
        """The figure that repeats best: the 5th percentile, or the prediction where there is none."""
        return self.p5_ms or self.latency_ms

    @property
    def images_per_s(self) -> tuple[float, float, float]:
        """Images a second at this batch, with the ends of the 95 % interval: value, low, high.

        Of inferences one after the other, so a batch of 1 gives the reciprocal of the latency. The high end is infinite
        where the interval of the latency begins at 0.
        """
        value, low = (1e3 * self.batch / ms for ms in (self.latency_ms, self.high_ms))
        return value, low, 1e3 * self.batch / self.low_ms if self.low_ms else float("inf")

    @property
    def is_disturbed(self) -> bool:
        """Whether a note says that the machine or the board was busy. Notes are stored, so old records answer too."""
        return any("busy" in note for note in self.notes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields, without optional ones that are empty."""
        fields = asdict(self)
        return {k: v for k, v in fields.items() if k not in OPTIONAL_FIELDS or v != OPTIONAL_FIELDS[k]}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Latency":
        """The inverse of `to_dict`, also after a JSON round trip. Fields of a later version are ignored."""
        known = {k: v for k, v in fields.items() if k in cls.__dataclass_fields__}
        layers = tuple((str(name), float(ms)) for name, ms in fields.get("layers", ()))
        return cls(**{**known, "notes": tuple(fields.get("notes", ())), "layers": layers})


def corrected_for_load(latency: Latency) -> Latency:
    """The latency that this machine would give at its best: value and interval divided by 1 + slowdown.

    Unchanged where the machine was calm, where its best is unknown, and for predictions. `p5_ms` and `slowdown` stay
    as measured. The correction assumes that other work slows the file as much as it slows the reference network.
    """
    slower = latency.slowdown or 0.0
    if slower <= MAX_REFERENCE_SLOWDOWN:
        return latency
    low_ms, ms, high_ms = (value / (1 + slower) for value in (latency.low_ms, latency.latency_ms, latency.high_ms))
    return replace(latency, latency_ms=ms, low_ms=low_ms, high_ms=high_ms)
