"""`nas search`: every field has a flag, what is shown meanwhile and afterwards; the search itself only reports."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas import api
from nas.cli.main import app
from nas.config import MODEL_FIELDS
from nas.results.run import Run
from nas.results.run_folder import RunFolder
from nas.results.status import SearchStatus
from tests.shown import plain


def test_every_field_of_the_configuration_has_a_flag(run: CliRunner, monkeypatch, folder: RunFolder) -> None:
    asked = {}

    def search(config, *, watch):
        asked.update(config.model_dump())
        return Run(folder)

    monkeypatch.setattr(api, "search", search)
    flags = [
        "--target", "cpu", "--space", "plain", "--dataset", "folder", "--data", "faces", "--data-option", "size=48",
        "--data-option", "gray=yes", "--objectives", "accuracy,latency,size", "--max-latency", "5ms", "--max-size",
        "500kB", "--min-accuracy", "0.6", "--trials", "7", "--budget", "30m", "--sampler", "random", "--epochs", "9",
        "--search-share", "0.7", "--patience", "40", "--verify-seeds", "3",
        "--rungs", "0.1,0.3,1", "--final-epochs", "4", "--verify", "2", "--seed", "3", "--threads", "1", "--device",
        "cpu", "--storage", "sqlite:///x.db", "--runs", "elsewhere", "--name", "mine",
        "--teacher", "votes", "--teacher", "best.onnx=3", "--distill", "dkd", "--temperature", "2", "--alpha", "0.5",
        "--distill-during", "search", "--compressors", "quantize,low_rank", "--prune-steps", "3", "--qat", "0.5",
        "--qat-scales", "learned", "--warm-start", "runs/a", "--warm-start", "runs/b", "--proxies", "nwot,jacov",
    ]  # fmt: skip
    found = run.invoke(app, ["search", *flags])
    assert found.exit_code == 0, found.output
    assert asked == {
        "target": "cpu", "space": "plain", "dataset": "folder", "data": Path("faces"),
        "data_options": {"size": "48", "gray": "yes"}, "objectives": ("accuracy", "latency", "size"),
        "max_latency": 5.0, "max_size": 500e3, "min_accuracy": 0.6, "trials": 7, "budget": 1800.0, "search_share": 0.7,
        "sampler": "random", "epochs": 9.0, "rungs": (0.1, 0.3, 1.0), "final_epochs": 4, "verify": 2, "seed": 3,
        "threads": 1, "device": "cpu", "storage": "sqlite:///x.db", "runs": Path("elsewhere"), "name": "mine",
        "teacher": ("votes", "best.onnx=3"), "distill": "dkd", "temperature": 2.0, "alpha": 0.5,
        "distill_during": "search", "compressors": ("quantize", "low_rank"), "prune_steps": 3, "qat": 0.5,
        "qat_scales": "learned", "patience": 40, "verify_seeds": 3,
        "warm_start": (Path("runs/a"), Path("runs/b")), "proxies": ("nwot", "jacov"),
        **dict.fromkeys(("model", *MODEL_FIELDS)),  # of nas compress
    }  # fmt: skip


def test_flags_go_before_the_file(run: CliRunner, monkeypatch, folder: RunFolder, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(api, "search", lambda config, *, watch: asked.append(config) or Run(folder))
    file = tmp_path / "nas.toml"
    file.write_text('target = "cpu"\nspace = "plain"\ntrials = 5\n')
    assert run.invoke(app, ["search", "--config", str(file), "--trials", "6"]).exit_code == 0
    assert (asked[0].target, asked[0].space, asked[0].trials, asked[0].budget) == ("cpu", "plain", 6, None)


def test_a_search_shows_the_front_and_what_comes_next(run: CliRunner, monkeypatch, folder: RunFolder) -> None:
    def search(config, *, watch):
        status = {"run": "r", "activity": "", "total": None, "feasible": 1.0, "hypervolume": 0.1}
        status |= {"best": "b", "left_s": 75}
        for done in range(25):
            watch(SearchStatus(stage="search", done=done, **status))
        watch(SearchStatus(stage="verify", done=1, **status))
        return Run(folder)

    monkeypatch.setattr(api, "search", search)
    found = run.invoke(app, ["search"])
    lines = found.stdout.splitlines()
    # Not a terminal: a line after 10 and 20 candidates and when the phase changes.
    assert [line.split(" ")[:2] for line in lines if "hypervolume" in line] == [
        ["searching:", "10"],
        ["searching:", "20"],
        ["training", "the"],
    ]
    assert "1:15 left" in lines[0]
    words = plain(found.stdout)
    assert "verified front" in words
    assert "predicted" in words
    assert "fell off: trial 5 (trial 2 is +2.0 points" in words
    assert f"nas pick {folder.path}" in words
    assert str(folder.path / "report.html") in words


def test_an_interrupted_search_says_that_it_goes_on(run: CliRunner, monkeypatch) -> None:
    def search(config, *, watch):
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "search", search)
    found = run.invoke(app, ["search"])
    assert found.exit_code == 130
    assert found.stderr == "nas: stopped; the same command goes on where it stopped\n"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--budget", "soon"], "budget: need a positive number"),
        (["--rungs", "a,b"], "need numbers with commas between"),
        (["--data-option", "gray"], "--data-option must be NAME=VALUE"),
        (["--objectives", "accuracy"], "objectives must be accuracy, latency"),
        (["--config", "nowhere.toml"], "cannot read nowhere.toml"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(run: CliRunner, flags: list[str], line: str) -> None:
    found = run.invoke(app, ["search", *flags])
    assert found.exit_code == 2
    assert found.stderr.startswith(f"nas: {line}")
    assert found.stderr.count("\n") == 1
