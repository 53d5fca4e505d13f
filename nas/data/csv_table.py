"""CSV reader that tolerates columns in any order and case, outer spaces, and a byte-order mark."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from nas.errors import DataError

Row = dict[str, str]


def read_rows(lines: Iterable[str], *, source: Path, required: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    """Data rows of a CSV file; empty lines are skipped.

    Args:
        lines: of the file, the header first.
        source: path of the file, for messages.
        required: lower-case names of columns that must be there.

    Yields:
        The row's line number in the file, and its stripped cells by lower-case column name.

    Raises:
        DataError: a required column is missing, a row has another number of cells than the header, or the text is not
            CSV in UTF-8.
    """
    reader = csv.reader(lines)
    try:
        header = [cell.strip().lower().lstrip("\ufeff") for cell in next(reader, [])]
        if missing := [name for name in required if name not in header]:
            raise DataError(
                f"{source}, row 1: the header must name the columns {', '.join(required)}, but {', '.join(missing)} is "
                f"missing from {', '.join(header)[:200] or 'an empty line'}; add the column or choose another data set"
            )
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{source}, row {reader.line_num}: a row must have {len(header)} cells, as the header, but has "
                    f"{len(cells)}; put quotes around cells that contain commas"
                )
            yield reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{source}, row {reader.line_num + 1}: the file must be CSV text in UTF-8, but cannot be read: {error}; "
            "save it in that form"
        ) from None
