"""How busy this machine is besides us, in words: load and stolen time, as Linux tells them."""

import os
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The counters of all cores at one moment, in ticks: all time, and what a hypervisor gave to others."""

    total: int = 0
    stolen: int = 0


def moment(stat: Path = STAT) -> Moment:
    """The counters now; zeros where the system has none. https://docs.kernel.org/filesystems/proc.html, section 1.7."""
    try:
        fields = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return Moment()
    return Moment(total=sum(fields), stolen=fields[7]) if len(fields) == 8 else Moment()


def words(since: Moment, stat: Path = STAT) -> str:
    """Load of the last minute and the share of stolen time since a moment, for example "load 2.1 on 2 cores"."""
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else "load unknown"
    now = moment(stat)
    stolen = (now.stolen - since.stolen) / (now.total - since.total) if now.total > since.total else 0.0
    return load + (f", {stolen:.0%} of the time stolen" if stolen >= 0.005 else "")
