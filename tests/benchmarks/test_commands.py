"""The benchmarks' command lines: `python -m benchmarks.X --help` describes each, and some also run as files."""

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
    pytest.param(
        name, marks=[] if name == "latency_prediction" else pytest.mark.slow
    )  # one is enough in the fast tests
    for name in COMMANDS
    if "if not __package__" in SOURCES[name]
]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_shows_the_command_as_it_is_typed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs in this process: a new process per command would load torch as often."""
    module = import_module(f"benchmarks.{name}")
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as exit_info:
        module.main()
    assert exit_info.value.code == 0
    assert f"python -m benchmarks.{name}" in capsys.readouterr().out


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_siblings_are_imported_from_the_package(file: Path) -> None:
    """A bare import works when the file is run, but not with `python -m`."""
    siblings = {other.stem for other in file.parent.glob("*.py")}
    assert not bare_imports(file.read_text()) & siblings


def bare_imports(source: str) -> set[str]:
    """Modules imported by a name without a dot, and relative imports of siblings, anywhere in the source."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {node.module} if node.module else {alias.name for alias in node.names}
    return modules


@pytest.mark.parametrize("line", ["import qat", "from qat import main", "from . import qat", "if 1:\n  import os, qat"])
def test_a_bare_import_is_found(line: str) -> None:
    assert "qat" in bare_imports(line)


@pytest.mark.parametrize(
    "line", ["import benchmarks.qat", "from benchmarks import qat", "from benchmarks.qat import x"]
)
def test_an_import_from_the_package_is_not_bare(line: str) -> None:
    assert "qat" not in bare_imports(line)


@pytest.mark.parametrize("name", FILES)
def test_a_benchmark_runs_as_a_file(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--help"]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert completed.returncode == 0, completed.stderr
    assert f"python -m benchmarks.{name}" in completed.stdout
