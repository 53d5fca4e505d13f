"""What the reference network takes on this machine at its best, remembered from one process to the next.

A machine that is busy all the time looks steady within one measurement: the reference network does not drift, and is
slower by a third. Only a memory of better times tells. It is one small file for a user, `fer-nas/reference.json` in the
cache folder, with an entry for each host name, runtime with its versions, and number of threads; without it, or where
it cannot be written, a machine is compared with itself within one measurement only. An entry never expires: where a
machine was made slower for good (another processor, a lower clock), remove the file.
"""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def memory_path() -> Path:
    """Where the best times are kept: in $XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "fer-nas" / "reference.json"


def recall_ms(memory: Path | None, key: str) -> float | None:
    """The reference network's best median in milliseconds, or None where none is known."""
    entry = _entries(memory).get(key)
    return float(entry["ms"]) if entry else None


def remember(memory: Path | None, key: str, ms: float) -> None:
    """Keep a median where it is the best so far. Two processes may do so at once; the file is always whole."""
    entries = _entries(memory)
    if memory is None or (key in entries and entries[key]["ms"] <= ms):
        return
    entries[key] = {"ms": ms, "when": datetime.now(UTC).isoformat(timespec="seconds")}
    beside = memory.with_name(f".{memory.name}.{os.getpid()}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        beside.replace(memory)
    except OSError as error:
        logger.info("the reference network's best time cannot be kept in %s: %s", memory, error)


def _entries(memory: Path | None) -> dict[str, dict[str, Any]]:
    """What the file holds; nothing where it is missing or damaged, as it only ever saves time."""
    try:
        found = json.loads(memory.read_text(encoding="utf-8")) if memory else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and all(map(_is_ours, found.values())) else {}


def _is_ours(entry: object) -> bool:
    ms = entry.get("ms") if isinstance(entry, dict) else None
    return isinstance(ms, int | float) and ms > 0
