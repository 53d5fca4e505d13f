"""The command line on runs made by hand; the search itself is replaced by one that only reports."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nas
from nas import api
from nas.cli import app, main
from nas.config import MODEL_FIELDS
from nas.doctor import Finding
from nas.measure import Measurement
from nas.records import RunFolder
from nas.run import Run
from nas.search import Status
from tests.fake_runs import a_model, a_run, some_record

COMMANDS = (
    "search",
    "compress",
    "pick",
    "export",
    "measure",
    "report",
    "table",
    "dashboard",
    "targets",
    "targets calibrate",
    "doctor",
    "data check",
)


@pytest.fixture
def run() -> CliRunner:
    return CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return a_run(tmp_path / "runs")


def plain(text: str) -> str:
    """Text without colours, and with spaces for line breaks and frames."""
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text).replace("│", " "))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_an_example(run: CliRunner, command: str) -> None:
    found = run.invoke(app, [*command.split(), "--help"])
    assert found.exit_code == 0
    assert f"Example: nas {command}" in plain(found.stdout)


def test_version(run: CliRunner) -> None:
    assert run.invoke(app, ["--version"]).stdout == f"fer-nas {nas.__version__}\n"


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
        "--search-share", "0.7", "--stop-when-flat", "40", "--verify-seeds", "3",
        "--rungs", "0.1,0.3,1", "--final-epochs", "4", "--verify", "2", "--seed", "3", "--threads", "1", "--device",
        "cpu", "--storage", "sqlite:///x.db", "--runs", "elsewhere", "--name", "mine",
        "--teacher", "votes", "--teacher", "best.onnx=3", "--distill", "dkd", "--temperature", "2", "--alpha", "0.5",
        "--distill-from", "start", "--compressors", "quantize,low_rank", "--prune-steps", "3", "--qat", "0.5",
        "--qat-steps", "learned", "--warm-start", "runs/a", "--warm-start", "runs/b", "--proxies", "nwot,jacov",
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
        "distill_from": "start", "compressors": ("quantize", "low_rank"), "prune_steps": 3, "qat": 0.5,
        "qat_steps": "learned", "stop_when_flat": 40, "verify_seeds": 3,
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
            watch(Status(phase="search", done=done, **status))
        watch(Status(phase="verify", done=1, **status))
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


def test_pick_says_why_and_names_the_neighbours(run: CliRunner, folder: RunFolder) -> None:
    found = run.invoke(app, ["pick", str(folder.path), "--max-latency", "3ms"])
    words = plain(found.stdout)
    assert found.exit_code == 0
    assert words.startswith("trial 1 ")
    assert "why: the most accurate within the limits, of 3 on the verified front" in words
    assert "the next slower one, trial 2, has +15.0 points" in words
    assert f"nas export {folder.path} --trial 1" in words


def test_pick_takes_the_newest_run(run: CliRunner, folder: RunFolder) -> None:
    found = run.invoke(app, ["pick", "--runs", str(folder.path.parent), "--min-accuracy", "0.7"])
    assert plain(found.stdout).startswith("trial 2 ")


def test_pick_where_no_run_is(run: CliRunner, tmp_path: Path) -> None:
    found = run.invoke(app, ["pick", "--runs", str(tmp_path)])
    assert found.exit_code == 2
    assert "holds no run yet" in found.stderr


def test_export_of_a_trial_and_of_a_pick(run: CliRunner, folder: RunFolder, tmp_path: Path) -> None:
    folder.append(some_record(1, 0.65, 2.0, phase="verified", **a_model(folder, "models/one.onnx")))
    for flags in (["--trial", "1"], ["--knee"], ["--max-latency", "2ms"]):
        out = tmp_path / flags[-1]
        found = run.invoke(app, ["export", str(folder.path), "--out", str(out), *flags])
        assert found.exit_code == 0, found.output
        assert (out / "model.onnx").read_bytes() == (folder.path / "models/one.onnx").read_bytes()
    both = run.invoke(app, ["export", str(folder.path), "--trial", "1", "--knee"])
    assert both.exit_code == 2
    assert "not both" in both.stderr


def test_measure_states_kind_and_provenance(run: CliRunner, monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> None:
    monkeypatch.setattr(api, "PATIENCE_S", 0.0)
    a_model(folder, "models/one.onnx")
    model = str(folder.path / "models/one.onnx")
    here = run.invoke(app, ["measure", model, "--runs", "50"])
    assert here.exit_code == 0, here.output
    assert re.search(r"^\d+\.\d{3} ms \[.*\] measured on .* median of 50 runs, 1 thread", plain(here.stdout))
    board = run.invoke(app, ["measure", model, "--target", "jetson", "--runs", "50", "--threads", "1"])
    assert "predicted for Jetson" in plain(board.stdout)
    assert "measured on this machine" in plain(board.stdout)


def test_measure_states_one_thread_and_several_apart_and_pins(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, folder: RunFolder
) -> None:
    models = [str(folder.path / a_model(folder, f"models/{name}.onnx")["model"]) for name in ("one", "other")]
    asked: list[tuple[int, int]] = []

    class Played:
        def __init__(self, *, pin: tuple[int, ...], **_: object) -> None:
            self.pin = pin

        def __enter__(self) -> "Played":
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def measure(self, models: list[Path], *, threads: int = 1, **_: object) -> list[Measurement]:
            asked.append((len(models), threads))
            versions = {"pinned": str(self.pin)}
            return [
                Measurement(
                    kind="measured", device="d", runtime="r", latency_ms=1 / threads, low_ms=0, high_ms=1,
                    threads=threads, versions=versions,
                )
                for _ in models
            ]  # fmt: skip

    monkeypatch.setattr(api, "Timer", Played)
    found = plain(run.invoke(app, ["measure", *models, "--threads", "4", "--pin", "0,2"]).stdout)
    assert asked == [(2, 1), (1, 4), (1, 4)], "one thread side by side, several one after the other"
    assert found.count("1 thread (pinned (0, 2))") == found.count("4 threads (pinned (0, 2))") == 2
    refused = run.invoke(app, ["measure", *models, "--pin", "first"])
    assert refused.exit_code == 2
    assert "--pin must be numbers of cores with commas between, but got 'first'" in refused.stderr


def test_measure_refuses_what_is_no_model(run: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    for path, line in (("gone.onnx", "but there is none"), ("x.onnx", "must ")):
        found = run.invoke(app, ["measure", str(tmp_path / path)])
        assert found.exit_code == 2
        assert line in found.stderr


def test_report_of_one_run_and_of_two(run: CliRunner, tmp_path: Path) -> None:
    one, two = a_run(tmp_path, name="one"), a_run(tmp_path, name="two")
    assert run.invoke(app, ["report", str(one.path)]).exit_code == 0
    assert (one.path / "report.html").exists()
    out = tmp_path / "both.html"
    found = run.invoke(app, ["report", str(one.path), str(two.path), "--out", str(out)])
    assert found.exit_code == 0
    assert out.exists()
    assert found.stdout.count("verified front") == 2


def test_targets_are_a_table_that_says_predicted(run: CliRunner) -> None:
    found = run.invoke(app, ["targets"])
    assert "measured here" in found.stdout
    assert "predicted" in found.stdout
    assert "jetson-orin-nano" in found.stdout


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_doctor_fails_where_a_search_could_not_go_on(run: CliRunner, monkeypatch, ok: bool, status: int) -> None:
    monkeypatch.setattr("nas.doctor.doctor", lambda: [Finding(name="disk", value="1 MB", ok=ok, advice="[make room]")])
    found = run.invoke(app, ["doctor"])
    assert found.exit_code == status
    assert "[make room]" in found.stdout


def test_dashboard_without_its_package_names_the_line_to_type(run: CliRunner, monkeypatch, folder: RunFolder) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna_dashboard", None)
    found = run.invoke(app, ["dashboard", str(folder.path)])
    assert found.exit_code == 2
    assert "pip install 'fer-nas[dashboard]'" in found.stderr


def test_dashboard_serves_the_run_s_study(run: CliRunner, monkeypatch, folder: RunFolder) -> None:
    served = []
    dashboard = pytest.importorskip("optuna_dashboard", reason="needs the extra `dashboard`")
    monkeypatch.setattr(dashboard, "run_server", lambda storage, host, port: served.append((storage, host, port)))
    found = run.invoke(app, ["dashboard", str(folder.path), "--port", "8123"])
    assert found.exit_code == 0, found.output
    assert "http://127.0.0.1:8123/dashboard/" in found.stdout
    assert served[0][1:] == ("127.0.0.1", 8123)
    assert type(served[0][0]).__name__ == "JournalStorage"


def test_data_check_counts_what_it_finds(run: CliRunner, monkeypatch, faces) -> None:
    monkeypatch.setattr("nas.datasets.load_data", lambda name, path, options: faces)
    words = plain(run.invoke(app, ["data", "check", "spots"]).stdout)
    assert "angry 32 (33.3%) 16 (33.3%)" in words
    assert "all 96 48" in words
    assert f"digest {faces.digest}" in words


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["search", "--trials", "x"], "Invalid value for '--trials'"),
        (["data", "check", "--dataset", "x"], "No such option: --dataset"),
        (["nope"], "No such command 'nope'"),
    ],
)
def test_what_is_mistyped_gets_one_line(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["nas", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"nas: {told}")
    assert "--help" in lines[0]


def test_a_front_says_which_of_its_latencies_were_measured_on_a_busy_machine(run: CliRunner, tmp_path: Path) -> None:
    calm, busy = some_record(1, 0.5, 1.0), some_record(2, 0.6, 2.0)
    assert busy.latency is not None
    noted = replace(busy.latency, notes=("2 files interleaved", "busy machine: 12% longer"))
    folder = a_run(tmp_path, records=[calm, replace(busy, latency=noted)])
    found = plain(run.invoke(app, ["report", str(folder.path)]).stdout)
    assert found.count("busy machine") == 1
    assert re.search(r"trial 2: .*busy machine: 12% longer", found)
    assert "interleaved" not in found


def test_a_search_that_is_terminated_ends_like_one_that_is_interrupted(tmp_path: Path) -> None:
    code = """
import os, signal, nas.api, nas.cli
nas.api.search = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)
nas.cli.main()
"""
    command = [sys.executable, "-c", code, "search", "--runs", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, timeout=60)
    assert ended.returncode == 130
    assert ended.stderr.splitlines()[-1] == "nas: stopped; the same command goes on where it stopped"
