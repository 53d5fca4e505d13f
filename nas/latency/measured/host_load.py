"""Load of this machine by other work, in words: load average and stolen time as Linux reports them."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC_STAT = Path("/proc/stat")


@dataclass(frozen=True, kw_only=True)
class CpuTicks:
    """Counters of all cores at one moment, in ticks: total time, and time that a hypervisor gave to other guests."""

    total: int = 0
    steal: int = 0


def snapshot(proc_stat: Path = PROC_STAT) -> CpuTicks:
    """Read the counters; zeros where the system has none.

    Source: https://docs.kernel.org/filesystems/proc.html, section 1.7. The first eight columns are user, nice, system,
    idle, iowait, irq, softirq and steal; guest time, the ninth, is already part of user time.
    """
    try:
        fields = [int(word) for word in proc_stat.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return CpuTicks()
    return CpuTicks(total=sum(fields), steal=fields[7]) if len(fields) == 8 else CpuTicks()


def describe_since(since: CpuTicks, proc_stat: Path = PROC_STAT) -> str:
    """Load of the last minute and the share of time stolen since a snapshot, for example "load 2.1 on 2 cores"."""
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else "load unknown"
    now = snapshot(proc_stat)
    stolen = (now.steal - since.steal) / (now.total - since.total) if now.total > since.total else 0.0
    return load + (f", {stolen:.0%} of the time stolen" if stolen >= 0.005 else "")
