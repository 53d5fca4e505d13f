"""Output of a command as plain text."""

import re


def plain(text: str) -> str:
    """Text without colour codes, with single spaces for line breaks and frames."""
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text).replace("│", " "))
