"""Lines of rungs.jsonl: read in order, from where the last call ended, and refused where values are missing."""

import json
from pathlib import Path

import pytest

from nas.config import make_config
from nas.errors import ConfigError
from nas.results.run_folder import RunFolder
from nas.results.rungs import RUNGS_FILE, read_rungs, rung_objectives

OBJECTIVES = ("accuracy", "latency", "energy")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.open(make_config(runs=tmp_path))


def append(folder: RunFolder, key: str, rung: int, values: list[float]) -> None:
    folder.append_line(RUNGS_FILE, json.dumps({"key": key, "rung": rung, "values": values}))


def test_energy_is_not_known_at_a_rung() -> None:
    assert rung_objectives(OBJECTIVES) == ["accuracy", "latency"]


def test_lines_are_read_once_and_in_order(folder: RunFolder) -> None:
    assert read_rungs(folder, OBJECTIVES) == []
    append(folder, "a", 1, [0.5, 1.0])
    append(folder, "b", 1, [0.25, 0.5])
    assert [line["key"] for line in read_rungs(folder, OBJECTIVES)] == ["a", "b"]
    append(folder, "a", 2, [0.75, 1.0])
    assert read_rungs(folder, OBJECTIVES, first=2) == [{"key": "a", "rung": 2, "values": [0.75, 1.0]}]


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 1.0, 2.0]])
def test_a_line_of_other_objectives_is_refused(folder: RunFolder, values: list[float]) -> None:
    append(folder, "a", 1, [0.5, 1.0])
    append(folder, "key", 2, values)
    with pytest.raises(
        ConfigError,
        match=rf"rungs.jsonl must have values of accuracy, latency in each line, but the line of 'key' at rung 2 has "
        rf"{len(values)}; restore the file from a copy, or remove the line",
    ):
        read_rungs(folder, OBJECTIVES)
