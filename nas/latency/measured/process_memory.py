"""Resident memory of this process, as the operating system counts it: VmRSS of Linux, whose pages are in memory now.

It is the figure that papers on edge devices print as MEM. Most of it is the interpreter and the runtime: ONNX Runtime
in Python holds 50 to 100 MB before it has read a network.
"""

from pathlib import Path

STATUS_FILE = Path("/proc/self/status")


def resident_bytes(status_file: Path = STATUS_FILE) -> int | None:
    """Bytes of this process that are in memory now; None where the system has no such file, as outside Linux.

    Args:
        status_file: in the form of /proc/PID/status.
    """
    try:
        lines = status_file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    words = next((line.split() for line in lines if line.startswith("VmRSS:")), [])
    return 1024 * int(words[1]) if len(words) == 3 and words[1].isdecimal() and words[2] == "kB" else None
