"""Quiet host: workers hold still while one of them times a file, and the death of one stops nobody."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nas.latency.measured.quiet_host import QuietHost

WORKER = (
    "import sys, time\nfrom pathlib import Path\nfrom nas.latency.measured.quiet_host import QuietHost\n"
    "host = QuietHost(Path(sys.argv[1]))\n"
    "with host.working():\n"
    "    while True:\n"
    "        if sys.argv[2] == 'polite': host.make_way()\n"
    "        print(time.monotonic(), flush=True)\n"
    "        time.sleep(0.005)\n"
)


def start(folder: Path, manners: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WORKER, str(folder), manners]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_other_workers_hold_still_while_one_times_a_file(tmp_path: Path) -> None:
    host, ticks = QuietHost(tmp_path), list[float]()
    with start(tmp_path, "polite") as other:
        assert other.stdout is not None
        reader = threading.Thread(target=lambda lines: ticks.extend(map(float, lines)), args=(other.stdout,))
        reader.start()
        with host.working(), host.still() as is_still:
            begin = time.monotonic()
            time.sleep(0.2)
            end = time.monotonic()
        time.sleep(0.1)
        other.kill()
        reader.join()
    assert is_still
    assert not [tick for tick in ticks if begin < tick < end]
    assert [tick for tick in ticks if tick > end], "it goes on afterwards"


def test_a_worker_that_does_not_make_way_is_told_of(tmp_path: Path) -> None:
    host = QuietHost(tmp_path, patience_s=0.1)
    with start(tmp_path, "rude") as other:
        with host.working(), host.still() as is_still:
            assert not is_still
        other.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends no process by a signal")
def test_the_death_of_a_worker_stops_nobody(tmp_path: Path) -> None:
    host = QuietHost(tmp_path)
    with start(tmp_path, "rude") as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    (tmp_path / "timing").touch()  # as one leaves it that dies while it times a file
    host.make_way()
    with host.working(), host.still() as is_still:
        assert is_still
    assert not (tmp_path / "timing").exists()
    assert not (tmp_path / f"{other.pid}.working").exists()


def test_making_way_costs_nothing_while_nobody_times(tmp_path: Path) -> None:
    host = QuietHost(tmp_path)
    with host.working():
        host.make_way()
        with pytest.raises(TimeoutError), host._own.__class__(host._own.lock_file).acquire(timeout=0):
            pass
