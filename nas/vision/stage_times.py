"""Times of the stages of a frame, and what the process takes of the machine: CPU share and resident memory."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

STAGES = ("read", "detect", "crop", "classify", "draw")
_STATM = Path("/proc/self/statm")
"""Linux's memory of this process in pages, see proc_pid_statm(5): total, then resident."""


@dataclass
class StageTimes:
    """Seconds of each stage, one number a frame.

    Life: `measure` around each stage of a frame, then `end_frame`; `clear` after a warm-up.

    Attributes:
        seconds: by stage, in order of the frames.
        whole: seconds of each frame from the end of the one before.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    whole: list[float] = field(default_factory=list)
    _current: dict[str, float] = field(default_factory=dict)
    _begin: float = field(default_factory=time.perf_counter)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage of the current frame."""
        begin = time.perf_counter()
        yield
        self._current[stage] = self._current.get(stage, 0.0) + time.perf_counter() - begin

    def end_frame(self) -> None:
        """Keep the times of the current frame; a stage that did not run took 0 s."""
        now = time.perf_counter()
        self.whole.append(now - self._begin)
        self._begin = now
        for stage in STAGES:
            self.seconds[stage].append(self._current.get(stage, 0.0))
        self._current = {}

    def clear(self) -> None:
        """Forget all frames."""
        self.seconds = {stage: [] for stage in STAGES}
        self.whole, self._current, self._begin = [], {}, time.perf_counter()


@dataclass(frozen=True, kw_only=True)
class StageSummary:
    """Times of one stage over the frames.

    Attributes:
        stage: its name, or "whole".
        median_ms: milliseconds.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        frames_per_s: frames divided by the stage's whole time; infinite where that is 0.
        share: of the time of whole frames, 0..1.
    """

    stage: str
    median_ms: float
    p95_ms: float
    p99_ms: float
    frames_per_s: float
    share: float


def summarize(times: StageTimes) -> list[StageSummary]:
    """The stages in order, then whole frames.

    Raises:
        ValueError: there are no frames.
    """
    if not times.whole:
        raise ValueError("at least one frame must have been timed, but there is none")
    total = sum(times.whole)
    rows = [*((stage, times.seconds[stage]) for stage in STAGES), ("whole", times.whole)]
    return [
        StageSummary(
            stage=stage, median_ms=1e3 * float(np.median(seconds)), p95_ms=1e3 * float(np.percentile(seconds, 95)),
            p99_ms=1e3 * float(np.percentile(seconds, 99)),
            frames_per_s=len(seconds) / sum(seconds) if sum(seconds) else float("inf"), share=sum(seconds) / total,
        )
        for stage, seconds in rows
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ProcessUse:
    """What this process took of the machine over some time.

    Attributes:
        cpu_share: CPU time by wall time; 1 is one core.
        cores: cores that the process may use.
        resident_bytes: memory in use at the end; None where the system does not say.
        peak_bytes: largest memory in use since the process began; None where the system does not say.
        total_bytes: memory of the machine; None where the system does not say.
    """

    cpu_share: float
    cores: int
    resident_bytes: int | None
    peak_bytes: int | None
    total_bytes: int | None

    @property
    def memory_share(self) -> float | None:
        """Resident memory by that of the machine, 0..1; None where one of them is not known."""
        return self.resident_bytes / self.total_bytes if self.resident_bytes and self.total_bytes else None


class ProcessMeter:
    """CPU time and memory of this process: `begin` where the measurement starts, `read` at its end."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start counting CPU time."""
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()

    def read(self) -> ProcessUse:
        """What was taken since `begin`."""
        wall_s = max(time.perf_counter() - self._wall_s, 1e-9)
        return ProcessUse(
            cpu_share=(time.process_time() - self._cpu_s) / wall_s,
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            resident_bytes=_resident_bytes(), peak_bytes=_peak_bytes(), total_bytes=_total_bytes(),
        )  # fmt: skip


def _resident_bytes() -> int | None:
    with suppress(OSError, ValueError, IndexError, AttributeError):
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def _peak_bytes() -> int | None:
    with suppress(ImportError, OSError):
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) of macOS has bytes, of Linux kibibytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return None


def _total_bytes() -> int | None:
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
