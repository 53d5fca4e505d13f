"""Pixel strings: images written as decimal numbers separated by spaces, as in FER2013's CSV, parsed with numpy."""

import numpy as np
import numpy.typing as npt

_SPACE, _ZERO = 32, 48
"""ASCII codes."""


def parse_pixels(texts: list[str], *, count: int) -> npt.NDArray[np.uint8]:
    """Pixel values of N strings, each of `count` whole numbers 0..255; fast if they are separated by single spaces.

    Returns:
        [N, count] values.

    Raises:
        ValueError: a string has another form; the message starts with its index in `texts` and gives the reason.
    """
    values = _parse_numbers(texts) if all(text.count(" ") == count - 1 for text in texts) else None
    if values is None or len(values) != len(texts) * count:
        for index, text in enumerate(texts):
            if reason := _describe_error(text, count):
                raise ValueError(f"{index}: {reason}")
        values = np.array([[int(word.lstrip("0") or "0") for word in text.split()] for text in texts], np.uint8)
    return values.reshape(len(texts), count)


def _parse_numbers(texts: list[str]) -> npt.NDArray[np.uint8] | None:
    """All numbers of all strings in order, or None if there is anything but spaces and numbers up to 255.

    A number's value is computed at its last digit, from this byte and the two before it, for all bytes at once.
    """
    # Three spaces in front, because the bytes up to three places before the first digit are read.
    raw = np.frombuffer(("   " + " ".join(texts) + " ").encode("ascii", "replace"), np.uint8)
    digit = raw - _ZERO  # uint8 wraps, so every byte that is not a digit is above 9
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
    if np.any(value > 255) or np.any(hundreds & is_digit[last - 3]):  # the second: four digits or more
        return None
    return value.astype(np.uint8)


def _describe_error(text: str, count: int) -> str | None:
    words = text.split()
    if len(words) != count:
        return f"an image must have {count} pixels, but got {len(words)}"
    bad = next((word for word in words if not _is_byte(word)), None)
    return bad and f"pixels must be whole numbers from 0 to 255, but got {bad[:40]!r}"


def _is_byte(word: str) -> bool:
    # The length comes first, because Python refuses to convert numbers of more than 4,300 digits.
    return word.isdecimal() and word.isascii() and len(word.lstrip("0")) <= 3 and int(word.lstrip("0") or "0") <= 255
