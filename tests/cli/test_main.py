"""The command line as a whole: help of every command, mistyped commands, and how the process ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import nas
from nas.cli.main import app, main
from tests.shown import plain

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "search",
    "compress",
    "train",
    "quantize",
    "prune",
    "pick",
    "predict",
    "export",
    "measure",
    "report",
    "table",
    "dashboard",
    "targets",
    "targets show",
    "targets add",
    "targets check",
    "targets calibrate",
    "doctor",
    "data check",
    "data crop",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"Example: nas {command}" in plain(result.stdout)


def test_every_module_of_commands_is_a_command() -> None:
    """A module that `nas.cli.main` does not add would be dead code."""
    modules = {file.stem for file in (ROOT / "nas" / "cli" / "commands").glob("[!_]*.py")}
    assert modules <= {command.split()[0] for command in COMMANDS}


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"fer-nas {nas.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "--trials", "x"], "Invalid value for '--trials'"),
        (["search", "--device", "tpu"], "Invalid value for '--device': 'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["data", "check", "--dataset", "x"], "No such option: --dataset"),
        (["nope"], "No such command 'nope'"),
    ],
)
def test_a_mistyped_command_gives_one_line(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["nas", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"nas: {message}")
    assert "--help" in lines[0]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_terminated_search_ends_like_an_interrupted_one(tmp_path: Path, name: str) -> None:
    code = f"""
import os, signal, nas.api, nas.cli.main
nas.api.search = lambda *_, **__: os.kill(os.getpid(), signal.{name})
signal.signal(signal.{name}, signal.SIG_DFL)  # whatever started these tests, under nohup for example
nas.cli.main.main()
"""
    command = [sys.executable, "-c", code, "search", "--runs", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert ended.returncode == 130
    assert ended.stderr.splitlines()[-1] == "nas: stopped; the same command resumes"


def test_a_search_under_nohup_outlives_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["nas", "--version"])
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with pytest.raises(SystemExit):
            main()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("error", [KeyboardInterrupt, typer.Abort])
def test_an_interruption_before_the_command_begins_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    def interrupted(**_: object) -> None:
        raise error

    monkeypatch.setattr("nas.cli.main.app", interrupted)
    monkeypatch.setattr("nas.cli.main.signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "nas: stopped\n"
