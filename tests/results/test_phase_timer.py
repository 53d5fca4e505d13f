"""Phase timer: phases add up, and a step that fails counts."""

import pytest

import nas.results.phase_timer
from nas.results.phase_timer import PhaseTimer


def test_phases_add_up_and_failures_count(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 2.0, 10.0, 11.5, 20.0, 20.25])
    monkeypatch.setattr(nas.results.phase_timer.time, "perf_counter", lambda: next(moments))
    clock = PhaseTimer()
    with clock("train"):
        pass
    with clock("score"):
        pass
    with pytest.raises(RuntimeError), clock("train"):
        raise RuntimeError
    assert clock.seconds == {"train": 2.25, "score": 1.5}
