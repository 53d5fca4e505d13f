"""Resident memory: read from a recorded status file, and from this process, which grows by what it touches."""

from pathlib import Path

import numpy as np
import pytest

from nas.latency.measured.process_memory import STATUS_FILE, resident_bytes

RECORDED = "Name:\tpython\nVmPeak:\t  412345 kB\nVmHWM:\t   99000 kB\nVmRSS:\t   98304 kB\nThreads:\t1\n"


def test_the_recorded_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "status").write_text(RECORDED)
    assert resident_bytes(tmp_path / "status") == 96 * 2**20


@pytest.mark.parametrize("text", ["", "VmRSS:\n", "VmRSS:\t many kB\n", "VmRSS:\t 12 MB\n"])
def test_what_cannot_be_read_is_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "status").write_text(text)
    assert resident_bytes(tmp_path / "status") is None
    assert resident_bytes(tmp_path / "nowhere") is None


@pytest.mark.skipif(not STATUS_FILE.exists(), reason="only Linux has this file")
def test_this_process_grows_by_what_it_touches() -> None:
    before = resident_bytes()
    held = np.ones(40 * 2**20, np.uint8)
    after = resident_bytes()
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(held.nbytes, rel=0.1)
