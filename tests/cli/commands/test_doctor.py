"""`nas doctor`: its exit status."""

import pytest
from typer.testing import CliRunner

from nas.cli.main import app
from nas.runtimes.base import Finding


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_doctor_fails_where_a_search_cannot_run(run: CliRunner, monkeypatch, ok: bool, status: int) -> None:
    monkeypatch.setattr(
        "nas.targets.environment.check_environment",
        lambda: [Finding(name="disk", value="1 MB", is_ok=ok, advice="[make room]")],
    )
    found = run.invoke(app, ["doctor"])
    assert found.exit_code == status
    assert "[make room]" in found.stdout
