"""Load of the machine in words, from known counters."""

import os
from pathlib import Path

import pytest

from nas.latency.measured.host_load import CpuTicks, describe_since, snapshot


def test_stolen_time_is_a_share_of_the_elapsed_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 800 10 0 0 40 7 7\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    before = snapshot(stat)
    assert before == CpuTicks(total=1000, steal=40)
    stat.write_text("cpu  150 0 50 830 10 0 0 60 7 7\n")
    monkeypatch.setattr(os, "getloadavg", lambda: (2.14, 0, 0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert describe_since(before, stat) == "load 2.1 on 2 cores, 20% of the time stolen"
    assert describe_since(snapshot(stat), stat) == "load 2.1 on 2 cores"


@pytest.mark.parametrize("content", [None, "", "cpu a b c d e f g h\n", "cpu 1 2\n"])
def test_a_system_without_counters_has_zeros(tmp_path: Path, content: str | None) -> None:
    stat = tmp_path / "stat"
    if content is not None:
        stat.write_text(content)
    assert snapshot(stat) == CpuTicks()
