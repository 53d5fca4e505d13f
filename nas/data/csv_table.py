"""Rows of a CSV file, with headers as people write them: any order, any case, stray spaces, a byte-order mark."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from nas.errors import DataError

Row = dict[str, str]


def read_rows(lines: Iterable[str], *, source: Path, required: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    """Each data row as (line number in the file, stripped cells by lower-case header). Empty lines are passed over.

    Raises:
        DataError: a required column is missing, or a row has another number of cells than the header.
    """
    reader = csv.reader(lines)
    try:
        header = [cell.strip().lower().lstrip("\ufeff") for cell in next(reader, [])]
        if missing := [name for name in required if name not in header]:
            raise DataError(
                f"{source}, row 1: columns {', '.join(required)} are needed, but {', '.join(missing)} is missing "
                f"from {', '.join(header)[:200] or 'an empty line'}"
            )
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(f"{source}, row {reader.line_num}: {len(header)} cells expected, got {len(cells)}")
            yield reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{source}, row {reader.line_num + 1}: not readable as CSV text: {error}") from None
