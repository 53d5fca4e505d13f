"""Blocks of a page: marks, short forms and lines."""

from pathlib import Path

import pytest

from tests.docs.blocks import blocks, logical_lines

PAGE = """
<!-- short: --trials 2 -->
<!-- replace: --epochs 100 with --epochs 1 -->
```sh
nas train --model x \\
    --epochs 100    # long
echo done
```

Text.

1. a list

    <!-- as is -->
    ```python title="a.py"
    if True:
        print(1)
    ```

<!-- not run: needs a board -->
```sh
ssh board
```
"""


def test_a_block_has_its_text_marks_and_short_form(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    first, second, third = blocks(tmp_path / "page.md")
    assert (first.language, first.line) == ("sh", 5)
    assert first.short_form() == "nas train --model x --epochs 1 --trials 2\necho done"
    assert (second.title, second.text) == ("a.py", "if True:\n    print(1)\n")
    assert second.marks == (("as is", ""),)
    assert (third.reason_not_run, first.reason_not_run) == ("needs a board", "")


def test_a_replacement_that_does_not_occur_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("<!-- replace: --nope with x -->\n```sh\nnas doctor\n```\n")
    with pytest.raises(ValueError, match="'--nope' must occur in the block"):
        next(blocks(tmp_path / "page.md")).short_form()


def test_a_comment_that_is_no_mark_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("<!-- shrot: --trials 2 -->\n```sh\nnas doctor\n```\n")
    with pytest.raises(ValueError, match="must be a mark"):
        next(blocks(tmp_path / "page.md"))


def test_a_number_sign_within_a_word_is_no_comment() -> None:
    assert logical_lines("echo a#b # c\n# d\n\nnas \\\n  doctor") == ["echo a#b", "nas doctor"]
