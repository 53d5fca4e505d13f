"""Every benchmark is a command: `python -m benchmarks.X --help` says what it measures, and a few run as files too."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {file.stem: file.read_text() for file in sorted((ROOT / "benchmarks").glob("[!_]*.py"))}
COMMANDS = [name for name, source in SOURCES.items() if '__name__ == "__main__"' in source]
FILES = [
    pytest.param(name, marks=[] if name == "latency_prediction" else pytest.mark.slow)  # one is enough for every day
    for name in COMMANDS
    if "if not __package__" in SOURCES[name]
]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_shows_the_command_as_it_is_typed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: a new one for each would load torch as often."""
    module = import_module(f"benchmarks.{name}")
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as left:
        module.main()
    assert left.value.code == 0
    assert f"python -m benchmarks.{name}" in capsys.readouterr().out


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_siblings_are_imported_from_the_package(file: Path) -> None:
    """One rule for all: by bare name they would be found by files only, and not by `python -m`."""
    siblings = {other.stem for other in file.parent.glob("*.py")}
    assert not bare_imports(file.read_text()) & siblings


def bare_imports(source: str) -> set[str]:
    """Modules that are imported by a name without a dot, and those beside the file, wherever in the source."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("line", ["import qat", "from qat import main", "from . import qat", "if 1:\n  import os, qat"])
def test_a_bare_import_is_seen(line: str) -> None:
    assert "qat" in bare_imports(line)


@pytest.mark.parametrize(
    "line", ["import benchmarks.qat", "from benchmarks import qat", "from benchmarks.qat import x"]
)
def test_an_import_from_the_package_is_not_bare(line: str) -> None:
    assert "qat" not in bare_imports(line)


@pytest.mark.parametrize("name", FILES)
def test_what_has_siblings_and_had_the_form_of_a_file_keeps_it(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--help"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert f"python -m benchmarks.{name}" in ran.stdout
