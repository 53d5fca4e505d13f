"""Valence and arousal as sources write them: numbers in -1..1, and -2 where there is none (AffectNet)."""

from nas.errors import DataError

NO_AFFECT = -2.0
"""What AffectNet writes for faces without a clear expression and for pictures without a face."""


def parse_affect(valence: str, arousal: str, location: str) -> tuple[float, float] | None:
    """Valence and arousal; None if both are empty or both are -2.

    Args:
        valence: text of the number.
        arousal: text of the number.
        location: name of the row, for messages.

    Raises:
        DataError: one of them is no number in -1..1, or only one of them is there.
    """
    texts = valence.strip(), arousal.strip()
    if not any(texts):
        return None
    got = f"valence {texts[0][:20]!r} and arousal {texts[1][:20]!r}"
    try:
        numbers = float(texts[0]), float(texts[1])
    except ValueError:
        raise DataError(
            f"{location}: valence and arousal must be numbers, but got {got}; fill in both or leave both empty"
        ) from None
    if numbers == (NO_AFFECT, NO_AFFECT):
        return None
    if not all(-1 <= number <= 1 for number in numbers):  # NaN is not
        raise DataError(
            f"{location}: valence and arousal must be in -1..1, or both -2 where there is none, but got {got}; correct "
            "or remove the row"
        )
    return numbers
