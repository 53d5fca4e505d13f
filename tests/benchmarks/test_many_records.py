"""Figures of the loop over many records, and the journal that the benchmark writes."""

import pytest

from benchmarks._many_trials import figures
from benchmarks.many_records import print_bars


def test_figures_of_asks(capsys: pytest.CaptureFixture[str]) -> None:
    asked = [([1.0, 0.5], [3.0, 2.0]), ([4.0, 2.5], [4.5, 2.7]), ([6.0, 3.0], [6.1, 3.1])]
    found = figures(asked)
    assert found["resume wall"] == 3.0
    assert found["ask, mean processor"] == pytest.approx(0.15)
    assert found["ask, slowest wall"] == pytest.approx(0.5)
    assert found["overhead of a trial, mean processor"] == pytest.approx(1.1 / 2)
    print_bars(found, memory_mib=2000)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith(("ask", "over", "peak", "resume"))] == [
        "missed", "kept", "missed", "kept", "missed",
    ]  # fmt: skip
