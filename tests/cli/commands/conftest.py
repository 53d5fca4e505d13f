"""Fixtures of the tests of commands: a runner and a finished run."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.results.run_folder import RunFolder
from tests.fake_runs import a_run


@pytest.fixture
def run() -> CliRunner:
    return CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return a_run(tmp_path / "runs")
