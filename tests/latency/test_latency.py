"""Facts of a latency that readers of records use."""

import pytest

from nas.latency.latency import Latency


def latency(p5_ms: float | None = None, notes: tuple[str, ...] = ()) -> Latency:
    return Latency(
        kind="measured", device="d", runtime="r", latency_ms=2, low_ms=1, high_ms=3, p5_ms=p5_ms, notes=notes
    )


def test_the_robust_figure_is_the_5th_percentile_where_there_is_one() -> None:
    assert latency(p5_ms=1.5).robust_ms == 1.5
    assert latency().robust_ms == 2


@pytest.mark.parametrize(
    ("note", "is_disturbed"),
    [
        ("busy machine: the reference network drifted by +5.0%", True),
        ("busy board: the reference network drifted by -4.0%", True),
        ("2 files interleaved", False),
    ],
)
def test_stored_notes_say_whether_a_latency_is_disturbed(note: str, is_disturbed: bool) -> None:
    assert latency(notes=("first", note)).is_disturbed == is_disturbed
