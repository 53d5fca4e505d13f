"""Literature: the families hold the 64 entries of the list."""

import re

from tests.docs.blocks import DOCS


def test_the_families_hold_all_entries_of_the_list() -> None:
    rows = re.findall(
        r"^\| (R\d+) [^|]*\| (\d+) \|", (DOCS / "literature.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [row[0] for row in rows] == [f"R{i}" for i in range(1, 23)]
    assert sum(int(row[1]) for row in rows) == 64
