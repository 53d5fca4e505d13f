"""Page of the members: every member of every family, read without importing it."""

from docs.generated.member_page import first_sentence, member_page
from nas.registry import FAMILIES, names


def test_every_member_has_a_row_with_a_sentence() -> None:
    rows = dict(line.strip("| ").split(" | ", 1) for line in member_page().splitlines() if line.startswith("| `"))
    words = {f"`{name}`" for family in FAMILIES if family != "target" for name in names(family)}
    assert words <= set(rows)
    assert all(len(sentence) > 10 for sentence in rows.values())


def test_addresses_become_links() -> None:
    source = '"""TPE, https://arxiv.org/abs/2304.11127 (see arxiv.org/abs/1.5). A second sentence."""'
    assert first_sentence(source) == "TPE, <https://arxiv.org/abs/2304.11127> (see <https://arxiv.org/abs/1.5>)."
    assert first_sentence("x = 1") == ""
