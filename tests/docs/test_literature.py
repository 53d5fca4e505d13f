"""Literature: the families hold the 64 entries of the list."""

import re

from tests.docs.blocks import DOCS


def test_the_families_hold_all_entries_of_the_list() -> None:
    text = (DOCS / "literature.md").read_text(encoding="utf-8")
    families = re.findall(r"^### (R\d+)\. .+\n\n- Entries: (\d+)\.", text, re.MULTILINE)
    assert [name for name, _ in families] == [f"R{i}" for i in range(1, 23)]
    assert sum(int(entries) for _, entries in families) == 64
