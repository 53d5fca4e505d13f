"""`nas dashboard`, whose server is replaced."""

import socket

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


def test_an_address_that_cannot_be_listened_on_is_one_line(run: CliRunner, folder: RunFolder) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        for words in (["--port", taken], ["--host", "192.0.2.1", "--port", "8123"], ["--host", "a" * 300]):
            found = run.invoke(app, ["dashboard", str(folder.path), *words])
            assert (found.exit_code, found.stdout) == (2, "")
            assert found.stderr.startswith("nas: the dashboard must be able to listen on ")
            assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999"])
def test_a_port_that_does_not_exist_is_refused(run: CliRunner, folder: RunFolder, port: str) -> None:
    found = run.invoke(app, ["dashboard", str(folder.path), "--port", port])
    assert found.exit_code == 2
    assert "than or equal to" in found.output
