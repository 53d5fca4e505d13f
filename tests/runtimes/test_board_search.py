"""A whole search for a board of the user, over a real sshd: uncertain candidates are measured on it."""

from pathlib import Path

import pytest

from nas.config import make_config
from nas.errors import ConfigError, UnreachableError
from nas.evaluation.latency_evaluator import PREDICTED_BEFORE_NOTE
from nas.evaluation.online_latency import SAMPLES_FILE
from nas.runtimes.board import power as _power
from nas.searcher.searcher import search
from nas.targets.catalog import add_target
from tests.runtimes.conftest import PlayedBoard
from tests.tiny_search import make_quick


@pytest.fixture
def mynano(board: PlayedBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_quick(monkeypatch)
    facts = board.profile().facts
    add_target("mynano", {"like": "jetson-orin-nano", **{k: facts[k] for k in ("ssh", "trtexec", "ssh_config")}})


def config(**fields: object) -> object:
    few = {"data_options": {"n": "200", "size": "32"}, "space": "plain", "sampler": "random"}
    brief = {"trials": 2, "epochs": 0.5, "rungs": (1.0,), "final_epochs": 1, "verify": 1, "threads": 1}
    return make_config(target="mynano", **few, **brief, **fields)


@pytest.mark.usefixtures("mynano")
def test_files_are_measured_on_the_board_and_a_failure_affects_one(
    board: PlayedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_power, "IDLE_DURATION_S", 0.3)
    board.play(do={"candidate-1": "fail once"}, ms={"candidate-1": 0.2, "*": 0.1})
    run = search(config())
    searched = [r for r in run.records() if r.phase == "search"]
    (failed,) = [r for r in searched if r.status == "failed"]
    assert "trtexec failed with status 1: Error[10]: Could not find any implementation" in failed.reason
    assert "Engine could not be created" in (run.path / "models" / f"{failed.key}-board.log").read_text()
    complete = [r for r in run.records() if r.status == "complete"]
    assert {r.phase for r in complete} == {"search", "verified"}
    for record in complete:
        assert record.latency is not None
        assert (record.latency.kind, record.latency.runtime, record.latency.latency_ms) == (
            "measured",
            "trtexec_ssh",
            0.2,
        )
        assert record.latency.versions["power_mode"] == "15W"
        assert PREDICTED_BEFORE_NOTE not in record.latency.notes, (
            "its draft was measured there too: a profile's word is not enough"
        )
        assert record.host is not None
        assert record.host.runtime == "onnxruntime"

    samples = run.json_lines(SAMPLES_FILE)
    assert len(samples) >= 2
    assert {sample["latency_ms"] for sample in samples} == {0.2}


@pytest.mark.usefixtures("mynano")
def test_an_unreachable_board_is_one_line_before_the_search_starts(board: PlayedBoard, tmp_path: Path) -> None:
    text = (tmp_path / "nas.toml").read_text()
    (tmp_path / "nas.toml").write_text(text.replace('ssh = "board"', 'ssh = "stranger"'))
    with pytest.raises(UnreachableError, match="stranger must be a host whose key is known"):
        search(config())
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("mynano")
def test_energy_needs_a_power_monitor(board: PlayedBoard) -> None:
    for label in (board.root / "sys/bus/i2c").rglob("*_label"):
        label.unlink()
    with pytest.raises(ConfigError, match="objective energy needs a target that measures it"):
        search(config(objectives=("accuracy", "latency", "energy")))
