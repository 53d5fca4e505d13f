"""CSV reader that tolerates columns in any order and case, outer spaces, a byte-order mark, and semicolons or tabs.

Lines and files have bounds, so that a device, a damaged file or a small archive of a huge one ends with a message.
"""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from nas.data.paths import printable_path, printable_text
from nas.errors import DataError, one_line

Row = dict[str, str]

MAX_LINE_LENGTH = 2**16
"""Characters of a line; a face of FER2013 takes at most 9,240."""
MAX_CHARACTERS = 2**30
"""Characters of a file; FER2013 has 301 million."""
MAX_LINES = 5_000_000
"""Lines of a file; AffectNet has one million images."""


class Lines(Protocol):
    """Text that is read line by line."""

    def readline(self, size: int, /) -> str:
        """The next line, at most `size` characters of it; empty at the end."""


def read_rows(
    file: Lines, *, source: Path, required: tuple[str, ...], advice: str = "add the column or choose another data set"
) -> Iterator[tuple[int, Row]]:
    """Data rows of a CSV file; empty lines are skipped.

    Args:
        file: text, the header first, with cells separated by commas, semicolons or tabs.
        source: path of the file, for messages.
        required: lower-case names of columns that must be there.
        advice: what to do where one of them is missing.

    Yields:
        The row's line number in the file, and its stripped cells by lower-case column name.

    Raises:
        DataError: a required column is missing, a column occurs twice, a row has another number of cells than the
            header, a line or the file exceeds its bound, or the text is not CSV in UTF-8.
    """
    shown = printable_path(source)
    lines = _bounded_lines(file, shown)
    reader = csv.reader(lines)
    try:
        first = next(lines, "")
        reader = csv.reader(itertools.chain([first], lines), delimiter=_delimiter(first, required))
        header = _column_names(next(reader, []))
        if missing := [name for name in required if name not in header]:
            raise DataError(
                f"{shown}, row 1: the header must name the columns {', '.join(required)}, but {', '.join(missing)} is "
                f"missing from {printable_text(', '.join(header)[:200]) or 'an empty line'}; {advice}"
            )
        if double := [name for name in required if header.count(name) > 1]:
            raise DataError(f"{shown}, row 1: a column must occur once, but {double[0]} occurs twice; remove one")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{shown}, row {reader.line_num}: a row must have {len(header)} cells, as the header, but has "
                    f"{len(cells)}; put quotes around cells that contain commas"
                )
            yield reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    except (csv.Error, UnicodeError) as error:
        raise DataError(
            f"{shown}, row {reader.line_num + 1}: the file must be CSV text in UTF-8, but cannot be read: "
            f"{one_line(error)}; save it in that form"
        ) from None


def _column_names(cells: list[str]) -> list[str]:
    return [cell.lstrip("\ufeff").strip().strip('"').strip().lower() for cell in cells]


def _delimiter(header: str, required: tuple[str, ...]) -> str:
    """The character between cells: a comma, unless only a semicolon or a tab gives the required columns.

    Spreadsheets write semicolons where the comma is the decimal separator.
    """
    fitting = (d for d in ",;\t" if set(required) <= set(_column_names(next(csv.reader([header], delimiter=d), []))))
    return next(fitting, ",")


def _bounded_lines(file: Lines, shown: str) -> Iterator[str]:
    characters = 0
    for number in range(1, MAX_LINES + 2):
        line = file.readline(MAX_LINE_LENGTH + 1)
        if not line:
            return
        characters += len(line)
        if len(line) > MAX_LINE_LENGTH:
            raise DataError(
                f"{shown}, row {number}: a line must have at most {MAX_LINE_LENGTH:,} characters, but has more; check "
                "that this is the CSV file"
            )
        if characters > MAX_CHARACTERS:
            raise DataError(
                f"{shown} must have at most {MAX_CHARACTERS:,} characters, but has more; check that this is the CSV "
                "file"
            )
        yield line
    raise DataError(f"{shown} must have at most {MAX_LINES:,} lines, but has more; check that this is the CSV file")
