"""A finished run folder of an earlier version: it opens, reports, picks, exports and resumes.

The folder data/small-run was made by `tests.behaviour.record` and is never written again by a newer version: its flat
config.toml and its records stand for the run folders of all users.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nas
from tests.behaviour import commands, machine
from tests.behaviour.commands import SMALL_RUN, SMALL_SEARCH, SMALL_TRIALS

COLUMNS = [
    "trial", "key", "phase", "space", "accuracy", "accuracy_low", "accuracy_high", "test_accuracy", "latency_ms",
    "latency_kind", "size_bytes", "packed_bytes", "params", "nonzero_params", "macs", "sparsity", "bits", "epochs",
    "model", "sha256",
]  # fmt: skip
FRONT = pd.read_csv(SMALL_RUN / "pareto.csv")
LINES = commands.lines_of(SMALL_RUN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return commands.copy_of_small_run(tmp_path)


def test_the_recorded_folder_is_as_it_was_made() -> None:
    held = b"".join((SMALL_RUN / name).read_bytes() for name in commands.UNCHANGED)
    assert hashlib.sha256(held).hexdigest() == (SMALL_RUN.parent / "small-run.sha256").read_text().strip()


def test_load_run_opens_it_with_the_same_front_and_records(folder: Path) -> None:
    run = nas.load_run(folder)
    pd.testing.assert_frame_equal(run.front[COLUMNS], FRONT[COLUMNS], check_dtype=False)
    recorded = [json.loads(line) for line in LINES]
    for column in ("trial", "key", "status", "phase", "size_bytes", "finished"):
        assert run.records[column].tolist() == [record[column] for record in recorded]


@pytest.mark.usefixtures("folder")
def test_nas_report_writes_a_page_with_every_member_of_the_front(tmp_path: Path) -> None:
    commands.nas("report runs/small-run --out page.html", place=tmp_path)
    page = (tmp_path / "page.html").read_text()
    assert page.rstrip().endswith("</html>")
    for row in FRONT.itertuples():
        assert str(row.key)[:8] in page
        assert f"{row.accuracy:.1%}" in page


@pytest.mark.parametrize(
    ("flags", "trial"),
    [("", 8), ("--knee", 8), ("--max-latency 1ms", 9), ("--max-latency 0.177ms", 8), ("--min-accuracy 0.18", 9)],
)
@pytest.mark.usefixtures("folder")
def test_nas_pick_picks_the_same(tmp_path: Path, flags: str, trial: int) -> None:
    told = commands.nas(f"pick runs/small-run {flags}", place=tmp_path)
    assert re.findall(r"--trial (\d+)", told) == [str(trial)]


@pytest.mark.parametrize("row", FRONT.to_dict("records"), ids=lambda row: f"trial {row['trial']}")
def test_nas_export_exports_the_same_bytes(folder: Path, tmp_path: Path, row: dict[str, Any]) -> None:
    model = nas.export(folder, row["trial"], out=tmp_path / "out")
    assert model.name == "model.onnx"
    assert model.read_bytes() == (SMALL_RUN / row["model"]).read_bytes()
    written = json.loads((model.parent / "record.json").read_text())
    recorded = next(r for r in map(json.loads, LINES) if (r["key"], r["phase"]) == (row["key"], row["phase"]))
    assert recorded.items() <= written.items()
    with np.load(model.parent / "golden.npz") as golden:
        assert golden["image"].shape == (1, 1, 32, 32)
        assert golden["probabilities"].sum() == pytest.approx(1.0, abs=1e-5)
    assert (model.parent / "model_card.md").read_text().startswith("#")


@pytest.mark.usefixtures("folder")
def test_the_command_line_exports_what_it_picks(tmp_path: Path) -> None:
    commands.nas("export runs/small-run --min-accuracy 0.18 --out out", place=tmp_path)
    member = FRONT[FRONT["trial"] == 9].iloc[0]
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (SMALL_RUN / member["model"]).read_bytes()


@pytest.mark.slow
def test_the_same_command_with_more_trials_resumes_and_keeps_every_record(folder: Path, tmp_path: Path) -> None:
    before = (SMALL_RUN / "records.jsonl").read_bytes()
    commands.nas(f"{SMALL_SEARCH} --trials {SMALL_TRIALS + 1}", place=tmp_path)
    after = (folder / "records.jsonl").read_bytes()
    assert after.startswith(before)
    assert (folder / "config.toml").read_bytes() == (SMALL_RUN / "config.toml").read_bytes()
    found = [json.loads(line) for line in after[len(before) :].decode().splitlines()]
    searched = [record for record in found if record["phase"] == "search"]
    assert [record["trial"] for record in searched] == [SMALL_TRIALS]
    assert not {record["key"] for record in searched} & {json.loads(line)["key"] for line in LINES}
    assert (folder / "report.html").exists()


@pytest.mark.slow
def test_a_front_without_final_training_continues_from_its_checkpoints(folder: Path, tmp_path: Path) -> None:
    searched = [line for line in LINES if json.loads(line)["phase"] == "search"]
    (folder / "records.jsonl").write_text("".join(line + "\n" for line in searched))
    for file in (folder / "models").glob("*-verified.onnx"):
        file.unlink()
    commands.nas(f"{SMALL_SEARCH} --trials {SMALL_TRIALS}", place=tmp_path)
    found, recorded = commands.figures(folder), commands.figures(SMALL_RUN)
    assert [commands.untrained(each) for each in found] == [commands.untrained(each) for each in recorded]
    if changed := machine.differences(json.loads((SMALL_RUN.parent / "small-run-machine.json").read_text())):
        pytest.skip(f"trained bytes are of another machine: {changed}")
    assert found == recorded
    pd.testing.assert_frame_equal(pd.read_csv(folder / "pareto.csv")[COLUMNS], FRONT[COLUMNS], check_exact=True)


def test_another_search_in_its_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    other = SMALL_SEARCH.replace("18kB", "19kB")
    with pytest.raises(AssertionError, match="max_size"):
        commands.nas(f"{other} --trials {SMALL_TRIALS}", place=tmp_path)
    assert commands.lines_of(folder) == LINES
