"""Run folder: everything a search writes, in files that are appended to or replaced whole.

    runs/NAME/
        config.toml  data.json  target.json          configuration, data set and device of the search
        environment.json  journal.log                versions and machine; Optuna's study
        records.jsonl  rungs.jsonl                   finished candidates; figures at each rung
        models/  checkpoints/  locks/  clocks/       ONNX files; weights between rungs; locks; time worked
        forecast.json  ended.json                    forecasts of the duration; why the search ended
        pareto.csv  pareto.json  report.html         derived from the records
        folds.csv                                    members in each fold, where the protocol has folds
        baselines.json                               figures of published models, for the report

One process at a time drives a run: it holds a lock of the operating system, which releases it when the process ends for
any reason. Others may read the folder meanwhile.
"""

import json
import logging
import math
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from nas.config import KEPT_DISTILLATION_FIELDS, KEPT_FIELDS, SearchConfig, read_run_config, without_password
from nas.errors import ConfigError, one_line
from nas.files import append_line, read_json, read_text, write_atomic
from nas.results.false_failures import is_false_failure
from nas.results.json_lines import JsonLines
from nas.results.record import Record

logger = logging.getLogger(__name__)

LOCK_POLL_S = 0.2
"""Seconds between two attempts at a lock that another process holds."""
DRIVER_FILE = "locks/driver.json"
"""Process and host that drive the run, or did so last."""


class RunFolder:
    """One run on disk: one process writes, others may read.

    - A reader never gets part of a record: a last line of records.jsonl that is torn is left out with a warning.
    - A file that is written whole appears by renaming.
    - It is driven by at most one live process, also after `kill -9`.
    - What one object has parsed stays parsed: it reads only what was appended since.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records = JsonLines(path / "records.jsonl", Record.from_json, keep=_is_evaluated)
        self._json_lines: dict[str, JsonLines[dict[str, Any]]] = {}
        self._config: tuple[tuple[int, int, int], SearchConfig] | None = None

    def __reduce__(self) -> tuple[type["RunFolder"], tuple[Path]]:
        """Pickle the path alone: another process reads the files itself."""
        return type(self), (self.path,)

    @classmethod
    def open(cls, config: SearchConfig) -> "RunFolder":
        """The folder of a configuration, created if it does not exist.

        Raises:
            ConfigError: the folder holds a run with another configuration; the message shows the difference.
        """
        folder = cls(config.folder)
        for name in ("models", "checkpoints", "locks", "clocks"):
            (folder.path / name).mkdir(parents=True, exist_ok=True)
        file = folder.path / "config.toml"
        if not file.exists():
            folder.write("config.toml", config.to_toml())
        elif differences := (before := read_run_config(file)).differences(config):
            raise ConfigError(
                f"{folder.path} holds a run with another configuration ({'; '.join(differences)}); "
                "give this one a --name of its own, or repeat the first command to resume"
            )
        elif before.run.storage and before.run.storage != without_password(before.run.storage):
            folder.write("config.toml", before.to_toml())  # version 0.1 kept the password
        return folder

    @classmethod
    def open_existing(cls, path: Path) -> "RunFolder":
        """The folder of an existing run.

        Raises:
            ConfigError: `path` is no run folder.
        """
        if not (path / "config.toml").exists():
            raise ConfigError(f"{path} is no run folder (it holds no config.toml); start a run with `nas search`")
        return cls(path)

    @property
    def config(self) -> SearchConfig:
        """The configuration the run was started with; the file is parsed again only after it changed."""
        file = self.path / "config.toml"
        if not file.exists():
            return read_run_config(file)  # raises with the reason
        status = file.stat()
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._config is None or self._config[0] != version:
            self._config = (version, read_run_config(file))
        return self._config[1]

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a whole file into the folder; it appears complete or not at all."""
        return write_atomic(self.path / name, content)

    def append(self, record: Record) -> None:
        """Append the record of a finished candidate."""
        self.append_line("records.jsonl", record.to_json())

    def records(self) -> list[Record]:
        """All finished candidates, oldest first.

        Only lines that were appended since the last call are parsed, so a call after each candidate is cheap.

        Returns:
            A new list of the same `Record` objects as in earlier calls, without those of `nas.results.false_failures`.

        Raises:
            ConfigError: records.jsonl cannot be read, or a line is damaged; the message names the line.
        """
        return self._records.read()

    def read_json(self, name: str, form: Any = dict[str, Any]) -> Any:
        """The value in a JSON file of the folder; an empty object where the file does not exist.

        Args:
            name: of the file.
            form: type that the value must have, as pydantic checks it; further entries are allowed.

        Raises:
            ConfigError: the file cannot be read, is not JSON, or its value has another form.
        """
        file = self.path / name
        if not file.exists():
            return {}
        stored = read_json(file)
        try:
            _checker(form).validate_json(read_text(file), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = "".join(f"{part}: " for part in first["loc"])
            raise ConfigError(
                f"{file} must be as it was written, but {one_line(where + str(first['msg']))}; restore the file from a "
                "copy, or remove it"
            ) from None
        return stored

    def append_line(self, name: str, line: str) -> None:
        """Append one line to a file of JSON lines, and wait until it is on the disk.

        Several processes may append at once. The lock keeps a line amid its writing from being taken for a torn one.
        """
        (self.path / "locks").mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / "locks" / f"{name}.lock", thread_local=False):
            append_line(self.path / name, line)

    def json_lines(self, name: str, form: Any = dict[str, Any]) -> list[dict[str, Any]]:
        """The decoded objects of a file of JSON lines, oldest first; see `JsonLines` for torn lines.

        Only lines that were appended since the last call are parsed.

        Args:
            name: of the file.
            form: type that each object must have, as pydantic checks it; the same in all calls for one file.

        Returns:
            A new list of the same objects as in earlier calls, which callers must not change.

        Raises:
            ConfigError: the file cannot be read, or a line is damaged.
        """
        if name not in self._json_lines:
            self._json_lines[name] = JsonLines(self.path / name, partial(_parse_object, form=form))
        return self._json_lines[name].read()

    @contextmanager
    def driven(self, *, wait: bool = False) -> Iterator[None]:
        """Drive the run while the block runs: no other process may, on any host that sees the folder.

        Args:
            wait: wait for the process that drives it, instead of refusing.

        Raises:
            ConfigError: another process drives the run; the message names it.
            OSError: the file system cannot lock, or has no room for the lock's file.
        """
        (self.path / "locks").mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / "locks" / "driver.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            driver = self._describe_driver()
            if not wait:
                raise ConfigError(
                    f"{self.path} must have one driver, but {driver} works on it; give --wait to go on after it, "
                    "--workers to evaluate more candidates at once, or --name for a run of your own"
                ) from None
            logger.warning("waiting for %s, which works on %s", driver, self.path)
            lock.acquire(poll_interval=LOCK_POLL_S)
        try:
            self.write(DRIVER_FILE, json.dumps({"pid": os.getpid(), "host": platform.node()}))
            yield
        finally:
            lock.release()

    def _describe_driver(self) -> str:
        try:
            driver = self.read_json(DRIVER_FILE)
        except ConfigError:  # it is written at this moment
            driver = {}
        return f"process {driver.get('pid', 'unknown')} on {driver.get('host', 'another host')}"

    def log_work_interval(self, started_s: float, worked_s: float) -> None:
        """Record that its driver has worked on the run for `worked_s` seconds from `started_s` (since the epoch)."""
        self.write(f"clocks/{int(started_s * 1e3)}-{os.getpid()}.json", json.dumps([started_s, started_s + worked_s]))

    def worked_s(self, *, until_s: float = math.inf) -> float:
        """Seconds during which a driver worked on the run, up to `until_s` (seconds since the epoch)."""
        spans = sorted(filter(None, map(_read_span, (self.path / "clocks").glob("*.json"))))
        # A clock that was set back since would let one interval last until that time. One that lies in the future as a
        # whole was measured by such a clock too, but its length is right.
        now_s = time.time()
        spans = [(first, min(last, now_s) if first <= now_s else last) for first, last in spans]
        return union_length([(first, min(last, until_s)) for first, last in spans])


def union_length(spans: Sequence[tuple[float, float]]) -> float:
    """Length of the union of intervals (start, end), which are sorted by their start.

    Examples:
        >>> union_length([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])
        4.0
    """
    total, end = 0.0, -math.inf
    for first, last in spans:
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def _is_evaluated(record: Record) -> bool:
    return record.status != "failed" or not is_false_failure(record.reason)


@cache
def _checker(form: Any) -> TypeAdapter[Any]:
    return TypeAdapter(form)


def _parse_object(line: str, *, form: Any) -> dict[str, Any]:
    """The object in a line of JSON.

    Raises:
        ValueError: it has another form.
    """
    try:
        _checker(form).validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError("".join(f"{part}: " for part in first["loc"]) + str(first["msg"])) from None
    return dict(json.loads(line))


def _read_span(file: Path) -> tuple[float, float] | None:
    """Start and end of an interval of work, in seconds since the epoch; None of a file that a dying system cut off."""
    try:
        start_s, end_s = map(float, read_json(file))
    except (ConfigError, TypeError, ValueError, OverflowError) as error:
        logger.warning("%s is left out of the time worked: %s", file, one_line(error))
        return None
    return (start_s, end_s) if math.isfinite(start_s) and math.isfinite(end_s) else None


def with_resumed_fields(config: SearchConfig) -> SearchConfig:
    """The configuration with the `KEPT_FIELDS` that were not given taken from the run to resume, if there is one."""
    file = config.folder / "config.toml"
    if not file.exists():
        return config
    before = read_run_config(file)
    kept = {name: before.get(name) for name in KEPT_FIELDS if name not in config.fields_set}
    for name, value in kept.items():
        is_used = name not in KEPT_DISTILLATION_FIELDS or config.distillation.teacher
        if value != config.get(name) and is_used:
            logger.warning("%s is %s, as in the run that is resumed", name, value)
    return config.with_fields(**kept)
