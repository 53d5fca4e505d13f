"""`--teacher self`: the most accurate member is trained first, and the others learn from its file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.config import make_config
from nas.errors import ConfigError
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from tests.tiny_search import SEARCH, Training

FIELDS: dict[str, Any] = {"teacher": ("self",), "trials": 3, "verify": 3, "teacher_views": 2, "final_epochs": 2}


@pytest.fixture(autouse=True)
def _all_complete_candidates_are_members(trainings: list[Training], monkeypatch: pytest.MonkeyPatch) -> None:
    def complete(folder: RunFolder, *_: Any, **__: Any) -> list[Record]:
        return [r for r in folder.records() if r.phase == "search" and r.status == "complete"]

    monkeypatch.setattr(SEARCH, "final_members", complete)


def verified(folder: RunFolder) -> list[Record]:
    return [record for record in folder.records() if record.phase == "verified"]


def test_the_first_member_teaches_the_others_and_a_resumed_run_trains_nothing_again(
    go: Callable[..., RunFolder], trainings: list[Training]
) -> None:
    folder = go(**FIELDS)
    first, *others = verified(folder)

    assert others
    assert first.teacher == ""
    searched = {r.key: r.objective("accuracy") or 0.0 for r in folder.records() if r.phase == "search"}
    assert all(searched[first.key] >= searched[other.key] for other in others)
    name = Path(first.model).name
    assert all(name in other.teacher for other in others)
    (facts,) = json.loads((folder.path / "teacher" / "teachers.json").read_text())
    assert facts["sha256"] == first.sha256
    assert len(list((folder.path / "teacher").glob("*-view*.npy"))) == 2

    lines, n_trainings = (folder.path / "records.jsonl").read_text(), len(trainings)
    go(**FIELDS)
    assert (folder.path / "records.jsonl").read_text() == lines
    assert len(trainings) == n_trainings


def test_a_run_that_searches_on_keeps_its_teacher(go: Callable[..., RunFolder]) -> None:
    before = json.loads((go(**FIELDS).path / "teacher" / "teachers.json").read_text())
    folder = go(**FIELDS | {"trials": 4, "verify": 5})
    assert json.loads((folder.path / "teacher" / "teachers.json").read_text()) == before


def test_self_beside_other_teachers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"teacher self must be the only one, but got self, a\.onnx"):
        make_config(teacher=("self", "a.onnx"))
