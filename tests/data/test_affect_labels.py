"""Valence and arousal as text."""

import pytest

from nas.data.affect_labels import parse_affect
from nas.errors import DataError


@pytest.mark.parametrize(
    ("valence", "arousal", "expected"),
    [
        ("0.5", " -1 ", (0.5, -1.0)),
        ("", "", None),
        ("-2", "-2.0", None),
        ("-2.000", "-2", None),
        ("1", "0", (1.0, 0.0)),
    ],
)
def test_numbers_and_none(valence: str, arousal: str, expected: tuple[float, float] | None) -> None:
    assert parse_affect(valence, arousal, "row 3") == expected


@pytest.mark.parametrize(
    ("valence", "arousal", "reason"),
    [
        ("-2", "0", "must be in -1..1, or both -2"),
        ("1.01", "0", "must be in -1..1"),
        ("nan", "nan", "must be in -1..1"),
        ("inf", "0", "must be in -1..1"),
        ("0.5", "", "must be numbers, but got valence '0.5' and arousal ''"),
        ("high", "0", "must be numbers"),
    ],
)
def test_other_text_is_refused(valence: str, arousal: str, reason: str) -> None:
    with pytest.raises(DataError, match=f"^row 3: valence and arousal {reason}"):
        parse_affect(valence, arousal, "row 3")
