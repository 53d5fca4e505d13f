"""`nas dashboard`: what its server answers, and to whom."""

import json
import shlex
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from nas.cli.commands._config_options import command_line
from nas.cli.commands.dashboard import make_dashboard
from nas.cli.main import app
from nas.config import make_config
from nas.results.run_folder import RunFolder

Get = Callable[..., tuple[int, bytes]]


@pytest.fixture
def get(folder: RunFolder) -> Iterator[Get]:
    """Asks a dashboard of the run, which is made at the first call."""
    pytest.importorskip("optuna_dashboard", reason="needs the extra `dashboard`")
    servers: list[Any] = []

    def get(path: str, *, method: str = "GET", is_writable: bool = False, **headers: str) -> tuple[int, bytes]:
        if not servers:
            servers.append(make_dashboard(folder, port=0, is_writable=is_writable))
            threading.Thread(target=servers[0].serve_forever, kwargs={"poll_interval": 0.01}).start()
        url = f"http://127.0.0.1:{servers[0].server_port}{path}"
        request = urllib.request.Request(url, method=method, headers=headers, data=b"{}" if method != "GET" else None)
        try:
            with urllib.request.urlopen(request) as answer:
                assert "Access-Control-Allow-Origin" not in answer.headers
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    yield get
    for server in servers:
        server.shutdown()
        server.server_close()


def test_dashboard_without_its_package_shows_how_to_install_it(run: CliRunner, monkeypatch, folder: RunFolder) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna_dashboard", None)
    found = run.invoke(app, ["dashboard", str(folder.path)])
    assert found.exit_code == 2
    assert "pip install 'fer-nas[dashboard]'" in found.stderr


def test_the_page_shows_the_run_and_serves_its_files(get: Get, folder: RunFolder) -> None:
    folder.write("report.html", "<html>the report")
    (study,) = json.loads(get("/api/studies")[1])["study_summaries"]
    assert study["study_name"] == folder.config.run_name
    detail = json.loads(get(f"/api/studies/{study['study_id']}")[1])
    assert [t["number"] for t in detail["best_trials"]] == [0, 1, 2, 5]
    assert [t["number"] for t in detail["trials"] if t["state"] != "Complete"] == [4, 6, 7]
    (report,) = detail["artifacts"]
    assert get(f"/artifacts/{study['study_id']}/{report['artifact_id']}") == (200, b"<html>the report")
    assert (folder.path / "artifacts" / report["artifact_id"]).exists()


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1:8080", "", "localhost@evil", "[::"]
)
def test_a_foreign_host_header_is_refused(get: Get, host: str) -> None:
    assert get("/api/studies", Host=host)[0] == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9999", "127.0.0.1:1", "[::1]:8080"])
def test_names_of_this_machine_are_answered(get: Get, host: str) -> None:
    assert get("/api/studies", Host=host)[0] == 200


def test_nothing_can_be_written(get: Get) -> None:
    before = get("/api/studies/1")
    for method, path in (
        ("DELETE", "/api/studies/1"), ("POST", "/api/studies"), ("POST", "/api/studies/1/rename"),
        ("PUT", "/api/studies/1/note"), ("POST", "/api/trials/0/tell"), ("POST", "/api/trials/0/user-attrs"),
        ("PUT", "/api/studies/1/0/note"), ("POST", "/api/artifacts/1/0"), ("DELETE", "/api/artifacts/1/0/ab"),
        ("OPTIONS", "/api/studies"), ("PATCH", "/api/studies/1"),
    ):  # fmt: skip
        assert get(path, method=method, **{"Content-Type": "application/json"})[0] == 405, (method, path)
    assert get("/api/studies/1") == before


def test_a_writable_one_is_written_by_its_own_pages_only(get: Get) -> None:
    words = {"Content-Type": "application/json"}
    status, answer = get("/api/studies", method="POST", is_writable=True, **words)
    assert (status, json.loads(answer)) == (400, {"reason": "You need to set study_name and direction"}), "handed on"
    assert get("/api/studies", method="POST", Host="localhost:1", Origin="http://localhost:1", **words)[0] == 400
    assert get("/api/studies", method="POST", Origin="http://evil.example", **words)[0] == 403
    assert get("/api/studies", method="POST", Host="evil.example", **words)[0] == 421


def test_an_address_that_cannot_be_listened_on_is_one_line(run: CliRunner, folder: RunFolder) -> None:
    pytest.importorskip("optuna_dashboard", reason="needs the extra `dashboard`")
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


def test_the_command_line_gives_the_configuration_again(run: CliRunner, monkeypatch) -> None:
    from nas import api

    config = make_config(
        space="plain", data="a b/$(x).csv", data_options={"size": "48", "q": "it's"}, max_latency="0.5ms", trials=7,
        objectives=("accuracy", "latency", "size"), rungs=(0.1, 1.0), teacher=("a.onnx=2", "votes"), max_size="500kB",
        storage="postgresql://ada:secret@db/nas", warm_start=("runs/a",), seed=3, alpha=0.5, name="mine",
    )  # fmt: skip
    command = command_line(config)
    assert "secret" not in command
    configs: list[Any] = []
    monkeypatch.setattr(api, "search", lambda config, *, on_status: configs.append(config) or 1 / 0)
    assert isinstance(run.invoke(app, shlex.split(command)[1:]).exception, ZeroDivisionError)
    assert configs[0].flat() == config.flat()
