"""OOM kills: how many processes the kernel has killed for want of memory in the control group of this process.

The kernel ends such a process by SIGKILL, which leaves no trace in it. The counter of its control group does:
`oom_kill` in memory.events (version 2) or memory.oom_control (version 1), see
https://docs.kernel.org/admin-guide/cgroup-v2.html. The counter of the whole machine in /proc/vmstat is not used,
because on a shared machine it counts what others run.
"""

from dataclasses import dataclass
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class OomKills:
    """Reading of a counter.

    Attributes:
        counter: which one: its control group, of this boot of this machine.
        count: processes killed.
    """

    counter: str
    count: int

    def grew_to(self, later: "OomKills | None") -> bool:
        """Whether a later reading is of the same counter and higher. False where nothing was read then."""
        return later is not None and later.counter == self.counter and later.count > self.count


def read_oom_kills() -> OomKills | None:
    """The counter of this process's control group; None where the system has none, as at its root or on Windows."""
    try:
        groups = [line.split(":", 2) for line in OWN_CGROUPS.read_text().splitlines()]
        boot = BOOT_ID.read_text().strip()
    except (OSError, ValueError):
        return None
    for _, controllers, path in groups:
        if "memory" in controllers.split(","):
            names: tuple[str, ...] = ("memory/{}/memory.oom_control",)
        elif not controllers:
            names = ("{}/memory.events.local", "{}/memory.events")
        else:
            continue
        # In a container the path may be that of the host; the group itself is then mounted at the root.
        for file in (CGROUP_ROOT / name.format(place).lstrip("/") for name in names for place in (path[1:], "")):
            if (count := _read_count(file)) is not None:
                # The inode tells a group from a later one of the same name.
                return OomKills(f"{boot} {file} {file.stat().st_ino}", count)
    return None


def _read_count(file: Path) -> int | None:
    try:
        fields = dict(line.split(None, 1) for line in file.read_text().splitlines())
        return int(fields["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None
