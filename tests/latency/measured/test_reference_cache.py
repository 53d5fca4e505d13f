"""Cache of the reference network's best times: the smallest is kept, and no failure of the cache is an error."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nas.latency.measured.reference_cache import load_best_ms, machine_id, reference_cache_path, store_best_ms


def test_the_smallest_time_of_each_key_is_kept(tmp_path: Path) -> None:
    memory = tmp_path / "deep" / "reference.json"
    for key, ms in [("a", 0.2), ("a", 0.1), ("a", 0.3), ("b", 5.0)]:
        store_best_ms(memory, key, ms)
    assert [load_best_ms(memory, key) for key in ("a", "b", "c")] == [0.1, 5.0, None]
    assert [path.name for path in memory.parent.iterdir()] == ["reference.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"a": 1}',
        '{"a": {"ms": 0}}',
        '{"a": {}}',
        '{"a": {"ms": "0.1"}}',
        '{"a": {"ms": 0.2}}',
        '{"a": {"ms": 0.2, "when": "then"}}',
        '{"a": {"ms": 0.2, "when": "2026-01-01"}}',
    ],
)
def test_a_damaged_cache_is_empty_and_is_replaced(tmp_path: Path, content: str) -> None:
    memory = tmp_path / "reference.json"
    memory.write_text(content)
    assert load_best_ms(memory, "a") is None
    store_best_ms(memory, "a", 0.1)
    assert load_best_ms(memory, "a") == 0.1


def test_a_cache_that_cannot_be_written_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store_best_ms(tmp_path / "file" / "reference.json", "a", 0.1)
    store_best_ms(None, "a", 0.1)
    assert load_best_ms(None, "a") is None


def test_the_cache_is_in_the_cache_folder_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert reference_cache_path() == tmp_path / "fer-nas" / "reference.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert reference_cache_path() == tmp_path / ".cache" / "fer-nas" / "reference.json"


def test_a_time_that_is_not_reached_again_within_30_days_is_dropped(tmp_path: Path) -> None:
    memory, start = tmp_path / "reference.json", datetime(2026, 1, 1, tzinfo=UTC)
    store_best_ms(memory, "a", 0.1, now=start)
    store_best_ms(memory, "a", 0.13, now=start + timedelta(days=20))  # a busy day renews nothing
    assert load_best_ms(memory, "a", now=start + timedelta(days=30)) == 0.1
    assert load_best_ms(memory, "a", now=start + timedelta(days=31)) is None
    store_best_ms(memory, "a", 0.13, now=start + timedelta(days=31))
    assert load_best_ms(memory, "a", now=start + timedelta(days=31)) == 0.13


def test_a_time_that_is_reached_again_is_renewed(tmp_path: Path) -> None:
    memory, start = tmp_path / "reference.json", datetime(2026, 1, 1, tzinfo=UTC)
    for day in (0, 25, 50):
        store_best_ms(memory, "a", 0.1 + 0.0001 * day / 25, now=start + timedelta(days=day))
    assert load_best_ms(memory, "a", now=start + timedelta(days=75)) == 0.1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux's calls for the cores of a process")
def test_a_pinned_process_has_an_entry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    everywhere = machine_id()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2})
    assert machine_id() == f"{everywhere}, cores 2"
