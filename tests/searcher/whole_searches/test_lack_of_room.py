"""No room, no memory: the search ends, nothing is recorded, and the same search resumes to the same front."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nas.errors import MeasureError
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from tests.tiny_search import assert_whole, replace_step, searched

NO_ROOM = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def figures(folder: RunFolder) -> list[tuple[Any, ...]]:
    return [(r.trial, r.key, r.status, r.rung, r.sha256, r.score) for r in searched(folder)]


def wrapped(error: BaseException) -> MeasureError:
    """The error, as a library and then this package wrap it."""
    found = MeasureError("the file must load, but does not")
    found.__context__ = RuntimeError("cannot load")
    found.__context__.__cause__ = error
    return found


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Files of this process may not grow beyond: the system's own answer is EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("train", MemoryError("Unable to allocate 9 GiB")),
        ("train", RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")),
        ("export_onnx", NO_ROOM),
        ("export_onnx", wrapped(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))),
        ("score", wrapped(RuntimeError("Non-zero status: Failed to allocate memory for requested buffer"))),
    ],
)
def test_a_step_without_room_ends_the_search_and_is_repeated(
    go: Callable[..., RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        replace_step(patch, step, lambda _: fails)
        with pytest.raises((OSError, MemoryError)) as caught:
            go(trials=1)
    assert caught.value.__notes__ == ["the same command resumes"]
    folder = RunFolder(tmp_path / "synthetic-plain-jetson")
    assert folder.records() == []
    assert [r.status for r in searched(go(trials=1))] == ["complete"]
    assert_whole(folder)


def test_files_that_may_not_grow_end_the_search_and_leave_the_results_as_they_are(
    go: Callable[..., RunFolder], tmp_path: Path
) -> None:
    folder, limit, seen = RunFolder(tmp_path / "synthetic-plain-jetson"), 4_000, list[Record]()
    ends = 0
    while True:  # a little more room each time: the limit meets the journal, models, checkpoints and records in turn
        try:
            with file_size_limit(limit):
                go(trials=2)
            break
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            ends += 1
        assert searched(folder)[: len(seen)] == seen
        seen = searched(folder)
        assert not [r for r in seen if r.status == "failed"]
        limit = round(2.2 * limit)
    assert ends > 2
    assert_whole(folder)
    assert figures(folder) == figures(go(trials=2, runs=tmp_path / "undisturbed"))
