"""Facts of a latency that readers of records use."""

import pytest

from nas.errors import MeasureError
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


def test_images_a_second_follow_from_latency_and_batch() -> None:
    assert latency().images_per_s == (500.0, pytest.approx(1000 / 3), 1000.0)
    eight = Latency(kind="measured", device="d", runtime="r", latency_ms=4, low_ms=0, high_ms=5, batch=8)
    assert eight.images_per_s == (2000.0, 1600.0, float("inf"))


def test_optional_fields_are_omitted_as_long_as_they_say_nothing() -> None:
    plain = latency().to_dict()
    assert not {"batch", "resident_bytes", "energy_mj", "layers", "slowdown"} & plain.keys()
    assert (Latency.from_dict(plain).batch, Latency.from_dict(plain).resident_bytes) == (1, None)
    full = Latency(
        kind="measured", device="d", runtime="r", latency_ms=2, low_ms=1, high_ms=3, batch=8, resident_bytes=10**8
    )
    assert Latency.from_dict(full.to_dict()) == full


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("batch", 0, "batch must be at least 1, but is 0"),
        ("resident_bytes", 0, "resident_bytes must be above 0"),
        ("dla_fallback", -1, "dla_fallback must not be negative, but is -1"),
    ],
)
def test_an_impossible_batch_or_memory_is_refused(field: str, value: int, line: str) -> None:
    fields = {"latency_ms": 2.0, "low_ms": 1.0, "high_ms": 3.0, field: value}
    with pytest.raises(MeasureError, match=line):
        Latency(kind="measured", device="d", runtime="r", **fields)  # type: ignore[arg-type]
