"""The incremental reader of JSON lines: the same items as a full read, and no line parsed twice."""

import json
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import ConfigError
from nas.files import append_line
from nas.results.json_lines import JsonLines
from nas.results.run_folder import RunFolder
from tests.fake_runs import a_run, a_search, some_record


class Parser:
    """A parser that keeps what it was given."""

    def __init__(self) -> None:
        self.parsed: list[dict[str, Any]] = []

    def __call__(self, line: str) -> dict[str, Any]:
        self.parsed.append(json.loads(line))
        return self.parsed[-1]


@pytest.fixture
def parser() -> Parser:
    return Parser()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.jsonl"


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def full_read(path: Path) -> list[Any]:
    """All items of a file, by a reader that remembers nothing; torn lines are left out."""
    items = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        with suppress(ValueError):
            items.append(json.loads(line.decode()))
    return items


def test_each_line_is_parsed_once(path: Path, parser: Parser) -> None:
    lines = JsonLines(path, parser)
    assert lines.read() == []
    for n in range(5):
        add(path, json.dumps({"n": n}) + "\n")
        assert lines.read() == [{"n": i} for i in range(n + 1)]
        assert lines.read() == [{"n": i} for i in range(n + 1)]
    assert parser.parsed == [{"n": n} for n in range(5)]


def test_items_stay_the_same_objects_in_new_lists(path: Path, parser: Parser) -> None:
    lines = JsonLines(path, parser)
    add(path, '{"n":0}\n')
    before = lines.read()
    add(path, '{"n":1}\n')
    after = lines.read()
    assert after[0] is before[0]
    after.clear()
    assert lines.read() == [{"n": 0}, {"n": 1}]


def test_a_last_line_without_its_break_counts_as_soon_as_it_is_valid(path: Path, parser: Parser) -> None:
    lines = JsonLines(path, parser)
    add(path, '{"n":0}\n{"n"')
    assert lines.read() == [{"n": 0}]
    add(path, ":1}")
    assert lines.read() == [{"n": 0}, {"n": 1}]
    add(path, "\n")
    assert lines.read() == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize("torn", [b'{"n":7', b"\xc3", b"\xff\xfe", b"nul", b"\0" * 9, b"[" * 100_000])
def test_a_torn_last_line_is_left_out_with_a_warning_and_replaced_by_the_next(
    path: Path, parser: Parser, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    lines = JsonLines(path, parser)
    path.write_bytes(b'{"n":0}\n' + torn)
    assert lines.read() == lines.read() == [{"n": 0}]
    assert [record.message for record in caplog.records] == [
        f"{path}, line 2 is incomplete and left out: a process is writing it, or ended while it did"
    ]
    append_line(path, '{"n":1}')
    assert lines.read() == [{"n": 0}, {"n": 1}]
    assert path.read_text() == '{"n":0}\n{"n":1}\n'


@pytest.mark.parametrize("torn", [b'{"n":7', b"\xff", b"\0\0", b"[" * 100_000, b"1" * 5000, b'{"n":7}{"n":8}'])
def test_a_torn_line_of_an_older_version_is_left_out_with_a_warning(
    path: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    lines = JsonLines(path, json.loads)
    path.write_bytes(b'{"n":0}\n\n' + torn + b'\n{"n":1}\n')
    assert lines.read() == lines.read() == [{"n": 0}, {"n": 1}]
    assert [record.message for record in caplog.records] == [f"{path}, line 3 is incomplete and left out"]


def test_any_other_damaged_line_is_refused_with_its_number(path: Path) -> None:
    def parse(line: str) -> Any:
        if (value := json.loads(line)["n"]) < 0:
            raise ValueError(f"n must be 0 or more, but is {value}")
        return value

    lines = JsonLines(path, parse)
    path.write_text('{"n":0}\n{"n":1}\n')
    assert lines.read() == [0, 1]
    add(path, '{"n":2}\n{"n":-1}\n{"n":3}\n')
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"x\.jsonl, line 4 must be as it was written, but n must be 0 or more"):
            lines.read()
    path.write_text('{"n":0}\n')
    assert lines.read() == [0]


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_regular_file_is_refused(path: Path, kind: str) -> None:
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(ConfigError, match=f"must be a regular file, but is a {kind}"):
        JsonLines(path, json.loads).read()


def test_a_file_that_shrank_is_read_again(path: Path, parser: Parser) -> None:
    lines = JsonLines(path, parser)
    path.write_text('{"n":0}\n{"n":1}\n')
    lines.read()
    path.write_text('{"n":2}\n')
    assert lines.read() == [{"n": 2}]


def test_a_file_that_was_replaced_by_a_longer_one_is_read_again(path: Path, parser: Parser) -> None:
    lines = JsonLines(path, parser)
    path.write_text('{"n":0}\n')
    lines.read()
    other = path.with_name("other")
    other.write_text('{"n":0}\n{"n":1}\n')
    other.replace(path)
    assert lines.read() == [{"n": 0}, {"n": 1}]
    assert len(parser.parsed) == 3, "another inode: nothing is taken from the old file"


@pytest.mark.parametrize("content", ['{"n":5}\n', '{"n":5}\n{"n":6}\n'], ids=["as long", "longer"])
def test_a_file_that_was_rewritten_in_place_is_read_again(path: Path, parser: Parser, content: str) -> None:
    lines = JsonLines(path, parser)
    path.write_text('{"n":0}\n')
    lines.read()
    inode = path.stat().st_ino
    path.write_text(content)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))  # the clock of the file system may be coarse
    assert path.stat().st_ino == inode
    assert lines.read() == full_read(path)


def test_a_file_that_was_deleted_has_no_items(path: Path, parser: Parser) -> None:
    lines = JsonLines(path, parser)
    add(path, '{"n":0}\n')
    lines.read()
    path.unlink()
    assert lines.read() == []
    add(path, '{"n":1}\n')
    assert lines.read() == [{"n": 1}]


@given(pieces=st.lists(st.sampled_from(['{"n":1}', '{"n":2', "\n", "}", "null", "\n\n", '{"text":"ä"}']), max_size=20))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_sequence_of_appends_reads_as_a_full_read_does(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str]
) -> None:
    path = tmp_path_factory.mktemp("appends") / "x.jsonl"
    lines = JsonLines(path, json.loads)
    for piece in pieces:
        add(path, piece)
        assert lines.read() == full_read(path)


def test_records_stay_the_same_objects_while_another_process_appends(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    before = folder.records()
    RunFolder(folder.path).append(some_record(8, 0.3, 3.0))
    after = folder.records()
    assert after == [*a_search(), some_record(8, 0.3, 3.0)]
    assert all(a is b for a, b in zip(before, after, strict=False))


def test_a_run_folder_travels_as_its_path(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    folder.records()
    copy = pickle.loads(pickle.dumps(folder))
    assert (copy.path, copy.records()) == (folder.path, folder.records())
