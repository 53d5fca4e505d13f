"""Images written as decimal numbers with spaces between, as in FER2013's CSV: read many at once, in numpy."""

import numpy as np
import numpy.typing as npt

_SPACE, _ZERO = 32, 48


def parse_pixels(texts: list[str], *, count: int) -> npt.NDArray[np.uint8]:
    """[N, count] pixel values of N texts, each `count` whole numbers 0..255. Fast if single spaces part them.

    Raises:
        ValueError: a text does not hold that; the message starts with its index in `texts` and gives the reason.
    """
    values = _parse_numbers(texts) if all(text.count(" ") == count - 1 for text in texts) else None
    if values is None or len(values) != len(texts) * count:
        for index, text in enumerate(texts):
            if reason := _describe_error(text, count):
                raise ValueError(f"{index}: {reason}")
        values = np.array([[int(word) for word in text.split()] for text in texts], np.uint8)
    return values.reshape(len(texts), count)


def _parse_numbers(texts: list[str]) -> npt.NDArray[np.uint8] | None:
    """All numbers of all texts in order, or None if there is anything but spaces and numbers up to 255.

    A number's value is read at its last digit, from this byte and the two before it, for all bytes at once.
    """
    raw = np.frombuffer(("   " + " ".join(texts) + " ").encode("ascii", "replace"), np.uint8)
    digit = raw - _ZERO  # wraps: any byte but a digit is above 9
    is_digit = digit < 10
    if not np.all(is_digit | (raw == _SPACE)):
        return None
    last = np.flatnonzero(is_digit[:-1] & ~is_digit[1:])
    tens, hundreds = is_digit[last - 1], is_digit[last - 1] & is_digit[last - 2]
    value = (
        digit[last].astype(np.int64)
        + 10 * np.where(tens, digit[last - 1], 0).astype(np.int64)
        + 100 * np.where(hundreds, digit[last - 2], 0).astype(np.int64)
    )
    if np.any(value > 255) or np.any(hundreds & is_digit[last - 3]):
        return None
    return value.astype(np.uint8)


def _describe_error(text: str, count: int) -> str | None:
    words = text.split()
    if len(words) != count:
        return f"{count} pixels expected, got {len(words)}"
    bad = next((word for word in words if not (word.isdecimal() and word.isascii() and int(word) <= 255)), None)
    return bad and f"pixels must be whole numbers from 0 to 255, but got {bad!r}"
