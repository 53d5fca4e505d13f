"""`nas dashboard`, whose server is replaced."""

import pytest
from typer.testing import CliRunner

from nas.cli.main import app
from nas.results.run_folder import RunFolder


def test_dashboard_without_its_package_shows_how_to_install_it(run: CliRunner, monkeypatch, folder: RunFolder) -> None:
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
