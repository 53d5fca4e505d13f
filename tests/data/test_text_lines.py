"""Lines of words: bounds and messages."""

from pathlib import Path

import pytest

from nas.data.text_lines import MAX_LINE_LENGTH, read_lines
from nas.errors import DataError


def test_words_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffa 1\n\n  b\t2 \n", encoding="utf-8")
    assert list(read_lines(path, n_words=2, form="a name and a number")) == [
        (f"{path}, line 1", ["a", "1"]),
        (f"{path}, line 3", ["b", "2"]),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a 1 x\n", "line 1: a line must hold a name and a number, but is 'a 1 x'"),
        (b"a 1\n" + b"x" * (MAX_LINE_LENGTH + 1), "line 2: a line must hold"),
        (b"\xff\xfe", "must be text in UTF-8"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"labels\.txt.*{reason}"):
        list(read_lines(path, n_words=2, form="a name and a number"))
    with pytest.raises(DataError, match=r"absent\.txt does not exist; restore the file"):
        list(read_lines(tmp_path / "absent.txt", n_words=None, form="words"))
