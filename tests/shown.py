"""What a command shows, as a test reads it."""

import re


def plain(text: str) -> str:
    """Text without colours, and with spaces for line breaks and frames."""
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text).replace("│", " "))
