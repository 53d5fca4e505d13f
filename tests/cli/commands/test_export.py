"""`nas export` on a run made by hand."""

from pathlib import Path

from typer.testing import CliRunner

from nas.cli.main import app
from nas.results.run_folder import RunFolder
from tests.fake_runs import a_model, some_record


def test_export_of_a_trial_and_of_limits(run: CliRunner, folder: RunFolder, tmp_path: Path) -> None:
    folder.append(some_record(1, 0.65, 2.0, phase="verified", **a_model(folder, "models/one.onnx")))
    for flags in (["--trial", "1"], ["--knee"], ["--max-latency", "2ms"]):
        out = tmp_path / flags[-1]
        found = run.invoke(app, ["export", str(folder.path), "--out", str(out), *flags])
        assert found.exit_code == 0, found.output
        assert (out / "model.onnx").read_bytes() == (folder.path / "models/one.onnx").read_bytes()
    both = run.invoke(app, ["export", str(folder.path), "--trial", "1", "--knee"])
    assert both.exit_code == 2
    assert "not both" in both.stderr
