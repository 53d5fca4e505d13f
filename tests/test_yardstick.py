"""The memory of the reference network's best times: the least is kept, and nothing ever fails for it."""

from pathlib import Path

import pytest

from nas.yardstick import memory_path, recall_ms, remember


def test_the_least_of_each_key_is_kept(tmp_path: Path) -> None:
    memory = tmp_path / "deep" / "reference.json"
    for key, ms in [("a", 0.2), ("a", 0.1), ("a", 0.3), ("b", 5.0)]:
        remember(memory, key, ms)
    assert [recall_ms(memory, key) for key in ("a", "b", "c")] == [0.1, 5.0, None]
    assert [path.name for path in memory.parent.iterdir()] == ["reference.json"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"a": 1}', '{"a": {"ms": 0}}', '{"a": {}}', '{"a": {"ms": "0.1"}}']
)
def test_a_damaged_memory_knows_nothing_and_is_replaced(tmp_path: Path, content: str) -> None:
    memory = tmp_path / "reference.json"
    memory.write_text(content)
    assert recall_ms(memory, "a") is None
    remember(memory, "a", 0.1)
    assert recall_ms(memory, "a") == 0.1


def test_where_nothing_can_be_kept_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    remember(tmp_path / "file" / "reference.json", "a", 0.1)
    remember(None, "a", 0.1)
    assert recall_ms(None, "a") is None


def test_it_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert memory_path() == tmp_path / "fer-nas" / "reference.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert memory_path() == tmp_path / ".cache" / "fer-nas" / "reference.json"
