"""Record of one evaluated candidate: one JSON line, with every figure that was read off its file."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any, Literal

from nas.candidate import Candidate
from nas.latency.estimate import Latency
from nas.latency.speedup import Int8Speedup
from nas.metrics import Score

RecordStatus = Literal["complete", "infeasible", "failed"]
Phase = Literal["search", "verified", "base"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything known of one finished candidate. The figures were read off the file `model`.

    Attributes:
        trial: number of the Optuna trial; -1 is the uncompressed net that a compression begins with.
        key: the candidate's key.
        status: `complete`; `infeasible` when a constraint is broken (`reason` says which); `failed`.
        phase: `search`; `verified` after the full training of the front; `base` for an uncompressed net.
        seed: number of the full training, where a member of the front is trained several times: 0 goes on from what the
            search has trained, and is the one that ships; others begin anew.
        candidate: what was built.
        reason: why it is infeasible or failed, one line.
        rung: how many rungs it went through.
        epochs: passes over the training set, in all.
        latency: on the target, measured or predicted.
        host: measured on this machine.
        score: ONNX Runtime's on the file, on the selection split.
        accuracy_split: which split, and whether its faces are synthetic.
        test: the file's score on the test split, taken once, after full training; None before, and without test data.
        gain: what the 8-bit units gain over the float twin; None where there are none.
        before: score of the float twin of a verified net, of the same weights; None where nothing is in 8 bits.
        notes: what a reader has to know of how the file came to be.
        proxies: zero-cost proxies of the draft, by word; empty where none were asked. Infinite ones are left out.
        parity: largest difference of probabilities, share of equal top-1, number of images.
        size_bytes: of the file.
        packed_bytes: of the file under zlib at its highest level: what zeros and few bits save where files are packed.
        params: stored weights.
        nonzero_params: those that are not zero.
        macs: multiply-accumulates for one image.
        model: path of the file, relative to the run folder.
        sha256: of the file.
        violations: constraint to the amount by which it is broken (<= 0 is kept): the share of the limit that latency
            and size are above it, the difference that accuracy is below it.
        teacher: how and from whom it learned besides the labels; empty without a teacher.
        seconds: phase to seconds it took.
        worker: host and process.
        finished: UTC, ISO 8601.
    """

    trial: int
    key: str
    status: RecordStatus
    candidate: Candidate
    phase: Phase = "search"
    seed: int = 0
    reason: str = ""
    rung: int = 0
    epochs: float = 0.0
    latency: Latency | None = None
    host: Latency | None = None
    score: Score | None = None
    accuracy_split: str = ""
    test: Score | None = None
    gain: Int8Speedup | None = None
    before: Score | None = None
    notes: tuple[str, ...] = ()
    proxies: dict[str, float] = field(default_factory=dict)
    parity: dict[str, float] = field(default_factory=dict)
    size_bytes: int | None = None
    packed_bytes: int | None = None
    params: int | None = None
    nonzero_params: int | None = None
    macs: int | None = None
    model: str = ""
    sha256: str = ""
    violations: dict[str, float] = field(default_factory=dict)
    teacher: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    worker: str = ""
    finished: str = ""

    def objective(self, name: str) -> float | None:
        """The value of one objective: accuracy 0..1, latency in ms, size in bytes, energy in mJ; None where unknown."""
        if name == "accuracy":
            return self.score.accuracy if self.score else None
        if name == "latency":
            return self.latency.latency_ms if self.latency else None
        if name == "energy":
            return self.latency.energy_mj if self.latency else None
        return float(self.size_bytes) if name == "size" and self.size_bytes else None

    @cached_property
    def finished_at_s(self) -> float:
        """`finished` in seconds since the epoch; NaN where it is empty."""
        return datetime.fromisoformat(self.finished).timestamp() if self.finished else math.nan

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> "Record":
        """The inverse of `to_json`; fields of a later version are ignored."""
        return cls.from_dict(json.loads(line))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Record":
        """The record of a decoded JSON object; fields of a later version are ignored."""
        raw = {name: stored[name] for name in _field_names() if name in stored}
        raw["candidate"] = Candidate(**raw["candidate"])
        for name in ("latency", "host"):
            raw[name] = Latency.from_dict(raw[name]) if raw.get(name) else None
        raw["gain"] = Int8Speedup(**raw["gain"]) if raw.get("gain") else None
        raw["notes"] = tuple(raw.get("notes", ()))
        for name in ("score", "test", "before"):
            raw[name] = Score.from_dict(raw[name]) if raw.get(name) else None
        return cls(**raw)


@cache
def _field_names() -> tuple[str, ...]:
    return tuple(f.name for f in fields(Record))


def utc_timestamp() -> str:
    """This moment in the form of `Record.finished`."""
    return datetime.now(UTC).isoformat(timespec="seconds")
