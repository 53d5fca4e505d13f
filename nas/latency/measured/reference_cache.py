"""Cache of the reference network's best time on this machine, kept from one process to the next.

A machine that is busy throughout looks steady within one measurement: the reference network does not drift, and is
slower by a third. Only a remembered better time reveals it. The cache is one small file for a user,
`fer-nas/reference.json` in the cache folder, with an entry for each combination of host name, processor, set of cores,
runtime with its versions, and number of threads. Without it, or where it cannot be written, a machine is compared with
itself within one measurement only. A time that was not reached again for 30 days is dropped: the machine was made
slower for good, for example by a firmware update.
"""

import json
import logging
import os
import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nas.errors import ConfigError
from nas.files import read_json, write_atomic
from nas.registry import load

logger = logging.getLogger(__name__)

MATCH_TOLERANCE = 0.01
"""A median at most this much above the best, as a share, counts as reaching it again."""
MAX_AGE = timedelta(days=30)
"""Age from which a best time that was not reached again is dropped."""
MAX_MS = 3.6e6
"""An hour: a longer time is no time of a small network."""
_RENEWAL_INTERVAL = timedelta(days=1)
"""Shortest time between two renewals of an entry, which saves a write for each measurement."""


def reference_cache_path() -> Path:
    """Path of the cache, in $XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "fer-nas" / "reference.json"


def machine_id() -> str:
    """Host name, processor, and the cores that this process may use where these are not all."""
    title, cores = load("target", "cpu")["cpu"].title, ""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        allowed = sorted(os.sched_getaffinity(0))
        cores = f", cores {' '.join(map(str, allowed))}" if len(allowed) < (os.cpu_count() or 1) else ""
    return f"{platform.node()}, {title}{cores}"


def load_best_ms(reference_cache: Path | None, key: str, *, now: datetime | None = None) -> float | None:
    """Best median of the reference network in milliseconds; None where it is unknown or older than 30 days."""
    entry = _read_entries(reference_cache).get(key)
    return float(entry["ms"]) if entry and _is_fresh(entry, now or datetime.now(UTC)) else None


def store_best_ms(reference_cache: Path | None, key: str, median_ms: float, *, now: datetime | None = None) -> None:
    """Store a median that was just measured, where it is the best so far or reaches the best again.

    Two processes may write at once: the file stays whole, but the entry of one may be lost until its next measurement.
    A cache that cannot be written is logged and otherwise ignored, as it only improves notes.
    """
    now, entries = now or datetime.now(UTC), _read_entries(reference_cache)
    known = entries[key] if key in entries and _is_fresh(entries[key], now) else None
    if reference_cache is None or (
        known is not None and known["ms"] <= median_ms and not _should_renew(known, median_ms, now)
    ):
        return
    entries[key] = {
        "ms": min(median_ms, known["ms"]) if known else median_ms,
        "when": now.isoformat(timespec="seconds"),
    }
    try:
        reference_cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(reference_cache, json.dumps(entries, indent=1) + "\n")
    except OSError as error:
        logger.info("the reference network's best time cannot be stored in %s: %s", reference_cache, error)


def _should_renew(entry: dict[str, Any], median_ms: float, now: datetime) -> bool:
    return median_ms <= entry["ms"] * (1 + MATCH_TOLERANCE) and _age(entry, now) >= _RENEWAL_INTERVAL


def _is_fresh(entry: dict[str, Any], now: datetime) -> bool:
    return _age(entry, now) <= MAX_AGE


def _age(entry: dict[str, Any], now: datetime) -> timedelta:
    return now - datetime.fromisoformat(entry["when"])


def _read_entries(reference_cache: Path | None) -> dict[str, dict[str, Any]]:
    """The entries by key; none where the file is missing or damaged, as a new cache costs one second."""
    try:
        entries = read_json(reference_cache) if reference_cache else {}
    except ConfigError:
        return {}
    return entries if isinstance(entries, dict) and all(map(_is_valid_entry, entries.values())) else {}


def _is_valid_entry(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    ms, when = entry.get("ms"), entry.get("when")
    try:
        return isinstance(ms, int | float) and 0 < ms < MAX_MS and datetime.fromisoformat(str(when)).tzinfo is not None
    except ValueError:
        return False
