"""Lines of words: text files of labels without a header, as RAF-DB's and ExpW's."""

from collections.abc import Iterator
from pathlib import Path

from nas.data.paths import printable_path
from nas.errors import DataError
from nas.files import regular_file_fault

MAX_LINE_LENGTH = 4096
"""Characters of a line; a name and a few numbers take less than 200."""


def read_lines(path: Path, *, n_words: int | None, form: str) -> Iterator[tuple[str, list[str]]]:
    """The words of each line of a text file; empty lines are skipped.

    Args:
        path: the file.
        n_words: words that each line must have; None for any number.
        form: what a line holds, for messages.

    Yields:
        "PATH, line N", and the words.

    Raises:
        DataError: the file cannot be read as UTF-8 text, a line is too long, or has another number of words.
    """
    shown = printable_path(path)
    if (fault := regular_file_fault(path)) is not None:
        raise DataError(f"{shown} {fault}; restore the file")
    try:
        with path.open(encoding="utf-8-sig") as file:
            number = 0
            while line := file.readline(MAX_LINE_LENGTH + 1):
                number += 1
                words = line.split()
                if len(line) > MAX_LINE_LENGTH or (words and n_words is not None and len(words) != n_words):
                    raise DataError(
                        f"{shown}, line {number}: a line must hold {form}, but is {line[:60].strip()!a}; unpack the "
                        "file again"
                    )
                if words:
                    yield f"{shown}, line {number}", words
    except UnicodeError:
        raise DataError(f"{shown} must be text in UTF-8, but is not; unpack the file again") from None
