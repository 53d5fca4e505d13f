"""Record of one evaluated candidate: one JSON line with every figure that was read from its file."""

import json
import math
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Annotated, Literal

from pydantic import PlainValidator, TypeAdapter, ValidationError

from nas.candidate import Candidate
from nas.errors import CandidateError, one_line
from nas.latency.int8_speedup import Int8Speedup
from nas.latency.latency import OPTIONAL_FIELDS, RECORD_OMITS, Latency
from nas.metrics import Score

RecordStatus = Literal["complete", "infeasible", "failed"]
Phase = Literal["search", "verified", "base"]


def _check_parity(stored: object) -> dict[str, float]:
    """Figures as they are stored: pydantic would turn the number of images into a float."""
    if not isinstance(stored, dict) or not all(type(value) in (int, float) for value in stored.values()):
        raise ValueError("must be numbers by name")
    return stored


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything known of one finished candidate. The figures were read from the file `model`.

    Attributes:
        trial: number of the Optuna trial; -1 for the uncompressed model of a compression.
        key: the candidate's key.
        status: `complete`; `infeasible` where a constraint is violated (`reason` names it); `failed`.
        phase: `search`; `verified` after the full training of the front; `base` for the uncompressed model.
        seed: number of the full training, where members are trained with several seeds: 0 continues the training of the
            search and is the one that ships; the others start from scratch.
        candidate: the architecture and its compression.
        reason: why it is infeasible or failed, one line.
        rung: number of rungs it completed.
        epochs: passes over the training set in total.
        latency: on the target, measured or predicted.
        host: latency measured on the search host.
        score: of the file in ONNX Runtime, on the selection split.
        accuracy_split: name of that split, and whether its faces are synthetic.
        test: score on the test split, taken once after full training; None before, and without test data.
        gain: speedup of the INT8 units over the FP32 baseline; None without INT8 units.
        before: score of the FP32 baseline of a verified candidate, with the same weights; None without INT8 units.
        notes: remarks on how the file was produced.
        proxies: zero-cost proxies of the untrained network by name; infinite values are left out.
        parity: largest difference of probabilities, share of equal top-1 classes, number of images.
        size_bytes: of the file.
        packed_bytes: of the file under zlib at its highest level, which shows what zeros and low bit-widths save.
        params: stored weights.
        nonzero_params: stored weights that are not zero.
        macs: multiply-accumulates for one image.
        activation_bytes: activations of one inference that are alive at once, at their peak, by the graph.
        memory_bytes: these and the weights, without the runtime. Both are None in records of earlier versions.
        model: path of the file, relative to the run folder.
        sha256: of the file.
        violations: constraint to its violation (<= 0 is satisfied): for latency, size and memory the excess as a share
            of the limit, for accuracy the shortfall.
        teacher: distillation method and teacher; empty without distillation.
        seconds: phase to the seconds spent in it.
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
    parity: Annotated[dict[str, float], PlainValidator(_check_parity)] = field(default_factory=dict)
    size_bytes: int | None = None
    packed_bytes: int | None = None
    params: int | None = None
    nonzero_params: int | None = None
    macs: int | None = None
    activation_bytes: int | None = None
    memory_bytes: int | None = None
    model: str = ""
    sha256: str = ""
    violations: dict[str, float] = field(default_factory=dict)
    teacher: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    worker: str = ""
    finished: str = ""

    def __post_init__(self) -> None:
        """Question each number where it enters.

        Raises:
            CandidateError: a number is impossible.
        """
        for name in (
            "size_bytes", "packed_bytes", "params", "nonzero_params", "macs", "activation_bytes", "memory_bytes",
            "rung", "epochs", "seed",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 <= value <= sys.float_info.max:
                raise CandidateError(
                    f"{name} must be finite and not negative, but is {one_line(repr(value), max_length=40)}"
                )
        if self.nonzero_params is not None and self.params is not None and self.nonzero_params > self.params:
            raise CandidateError(f"nonzero_params must be at most params = {self.params}, but is {self.nonzero_params}")
        for name in ("seconds", "violations", "proxies", "parity"):
            for entry, value in getattr(self, name).items():
                if not abs(value) <= sys.float_info.max or (name == "seconds" and value < 0):  # NaN too
                    bound = "finite and not negative" if name == "seconds" else "finite"
                    raise CandidateError(
                        f"{name}.{entry} must be {bound}, but is {one_line(repr(value), max_length=40)}"
                    )

    def objective(self, name: str) -> float | None:
        """Accuracy 0..1, latency in ms, size or memory in bytes, or energy in mJ; None where unknown."""
        if name == "accuracy":
            return self.score.accuracy if self.score else None
        if name == "latency":
            return self.latency.latency_ms if self.latency else None
        if name == "energy":
            return self.latency.energy_mj if self.latency else None
        n_bytes = {"size": self.size_bytes, "memory": self.memory_bytes}.get(name)
        return float(n_bytes) if n_bytes else None

    @cached_property
    def is_feasible(self) -> bool:
        """Whether it is complete and satisfies every constraint."""
        return self.status == "complete" and all(v <= 0 for v in self.violations.values())

    @cached_property
    def total_s(self) -> float:
        """Seconds spent in all phases."""
        return math.fsum(self.seconds.values())

    @cached_property
    def finished_at_s(self) -> float:
        """`finished` in seconds since the epoch; NaN where it is empty."""
        return datetime.fromisoformat(self.finished).timestamp() if self.finished else math.nan

    def to_json(self) -> str:
        """One line of JSON."""
        fields = asdict(self)
        for latency in (fields["latency"], fields["host"]):
            for name in RECORD_OMITS if latency else ():
                if latency[name] == OPTIONAL_FIELDS[name]:
                    del latency[name]
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> "Record":
        """The inverse of `to_json`; fields of a later version are ignored.

        Raises:
            ValueError: the line is not the JSON of a record, or a field has another type or an impossible value.
        """
        try:
            record = _form().validate_json(line, strict=True)
            if record.finished and datetime.fromisoformat(record.finished).tzinfo is None:
                raise ValueError(f"finished must have a time zone, but is {record.finished!r}")
            return record
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"{where}: {first['msg']}" if where else str(first["msg"])) from None
        except CandidateError as error:  # of a number
            raise ValueError(str(error)) from None


@cache
def _form() -> TypeAdapter[Record]:
    """Types of the fields of a stored record; made at first use, as it takes a tenth of a second."""
    return TypeAdapter(Record)


def utc_timestamp() -> str:
    """The current time in the form of `Record.finished`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _shown(value: float) -> str:
    """A number for a message; JSON may hold integers of thousands of digits."""
    return one_line(str(value), max_length=40)
