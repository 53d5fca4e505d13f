"""Records and the run folder: one JSON line per finished candidate, appended whole or not at all.

    runs/NAME/
        config.toml  data.json  target.json          what was asked, of which faces and for which device
        environment.json  journal.log                where, and Optuna's study
        records.jsonl  rungs.jsonl                   finished candidates; accuracies on the way there
        models/  checkpoints/  locks/  clocks/       the files; weights between rungs; who works on what, how long
        forecast.json  ended.json                    how long it was said to take; why the search ended
        pareto.csv  pareto.json  report.html         made anew from the records

Several processes may share a folder. What is being worked on is held by a lock of the operating system, so a process
that dies in any way lets go of it at that moment.
"""

import fcntl
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from nas.candidate import Candidate
from nas.config import KEPT_FIELDS, SearchConfig, read_config
from nas.errors import ConfigError
from nas.gain import Gain
from nas.measurement import Measurement
from nas.score import Score

logger = logging.getLogger(__name__)

Status = Literal["complete", "infeasible", "failed"]
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
    status: Status
    candidate: Candidate
    phase: Phase = "search"
    seed: int = 0
    reason: str = ""
    rung: int = 0
    epochs: float = 0.0
    latency: Measurement | None = None
    host: Measurement | None = None
    score: Score | None = None
    accuracy_split: str = ""
    test: Score | None = None
    gain: Gain | None = None
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

    def objective(self, word: str) -> float | None:
        """The value of one objective: accuracy 0..1, latency in ms, size in bytes, energy in mJ; None where unknown."""
        if word == "accuracy":
            return self.score.accuracy if self.score else None
        if word == "latency":
            return self.latency.latency_ms if self.latency else None
        if word == "energy":
            return self.latency.energy_mj if self.latency else None
        return float(self.size_bytes) if word == "size" and self.size_bytes else None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> "Record":
        """The inverse of `to_json`; fields of a later version are ignored."""
        raw: dict[str, Any] = json.loads(line)
        known = {f.name for f in fields(cls)}
        raw = {k: v for k, v in raw.items() if k in known}
        raw["candidate"] = Candidate(**raw["candidate"])
        for name in ("latency", "host"):
            raw[name] = Measurement.from_dict(raw[name]) if raw.get(name) else None
        raw["gain"] = Gain(**raw["gain"]) if raw.get("gain") else None
        raw["notes"] = tuple(raw.get("notes", ()))
        for name in ("score", "test", "before"):
            raw[name] = Score.from_dict(raw[name]) if raw.get(name) else None
        return cls(**raw)


class RunFolder:
    """One run on disk. Append-only but for what is made anew from the records.

    Promises: a line of records.jsonl is there whole or not at all, and a reader never sees a torn one; whole files
    appear by renaming. `claim` is held by at most one live process, also after `kill -9`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, config: SearchConfig) -> "RunFolder":
        """The folder of this configuration, made when it is not there.

        Raises:
            ConfigError: the folder holds a run of another configuration; the message shows the difference.
        """
        folder = cls(config.folder)
        for name in ("models", "checkpoints", "locks", "clocks"):
            (folder.path / name).mkdir(parents=True, exist_ok=True)
        with folder.claim("config", wait=True):
            file = folder.path / "config.toml"
            if not file.exists():
                folder.write("config.toml", config.to_toml())
            elif differences := read_config(file).differences(config):
                raise ConfigError(
                    f"{folder.path} holds a run with another configuration ({'; '.join(differences)}); "
                    "give this one a --name of its own, or repeat the first command to go on"
                )
        return folder

    @classmethod
    def existing(cls, path: Path) -> "RunFolder":
        """A folder that a search has made.

        Raises:
            ConfigError: there is none at `path`.
        """
        if not (path / "config.toml").exists():
            raise ConfigError(f"{path} is no run folder (it holds no config.toml); `nas search` makes one below runs/")
        return cls(path)

    @property
    def config(self) -> SearchConfig:
        """The configuration the run was started with."""
        return read_config(self.path / "config.toml")

    def write(self, name: str, content: str | bytes) -> Path:
        """Put a whole file into the folder: it appears complete or not at all."""
        target = self.path / name
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(target)
        return target

    def append(self, record: Record) -> None:
        """Add a finished candidate."""
        self.append_line("records.jsonl", record.to_json())

    def records(self) -> list[Record]:
        """All finished candidates, oldest first."""
        return [Record.from_json(line) for line in self.lines("records.jsonl")]

    def append_line(self, name: str, line: str) -> None:
        """Add one line to a file of lines, and wait until it is on the disk."""
        with self.claim(f"append-{name}", wait=True), (self.path / name).open("a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if (
                    file.read(1) != b"\n"
                ):  # a writer died within its line: what it left is ended, and skipped by readers
                    file.write(b"\n")
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def lines(self, name: str) -> list[str]:
        """The whole lines of a file of JSON lines; torn ones are skipped."""
        file = self.path / name
        if not file.exists():
            return []
        return [line for line in file.read_text().splitlines() if _is_json(line)]

    def tail(self, name: str, start: int) -> tuple[list[str], int]:
        """The whole lines of a file of JSON lines from byte `start` on, and the byte from which to go on later."""
        file = self.path / name
        if not file.exists() or file.stat().st_size <= start:
            return [], start
        with file.open("rb") as stream:
            stream.seek(start)
            content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        return [line for line in whole.decode().splitlines() if _is_json(line)], start + len(whole)

    @contextmanager
    def claim(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold `name` against all other processes while the block runs.

        Yields:
            Whether it is held; always true with `wait`.
        """
        with (self.path / "locks" / f"{name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError:
                yield False
                return
            yield True

    def tick(self, started: float) -> None:
        """Note that this process has worked on the run from `started` (seconds since the epoch) until now."""
        self.write(f"clocks/{int(started * 1e3)}-{os.getpid()}.json", json.dumps([started, time.time()]))

    def spent_s(self, *, until: float = math.inf) -> float:
        """Seconds in which at least one process worked on the run, before a moment (seconds since the epoch)."""
        spans = sorted(json.loads(f.read_text()) for f in (self.path / "clocks").glob("*.json"))
        total, end = 0.0, 0.0
        for first, last in spans:
            total += max(0.0, min(last, until) - max(first, end))
            end = max(end, last)
        return total


def now() -> str:
    """This moment in the form of `Record.finished`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def as_begun(config: SearchConfig) -> SearchConfig:
    """The configuration, with the `KEPT_FIELDS` that nobody gave as in the run that goes on, if there is one."""
    file = config.folder / "config.toml"
    if not file.exists():
        return config
    before = read_config(file)
    kept = {name: getattr(before, name) for name in KEPT_FIELDS if name not in config.model_fields_set}
    for name, value in kept.items():
        if value != getattr(config, name):
            logger.warning("%s is %s, as this run was begun with it", name, value)
    return config.model_copy(update=kept)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
