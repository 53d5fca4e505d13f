"""`nas export` on a run made by hand."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli.main import app
from nas.results.run_folder import RunFolder
from tests.fake_runs import a_model, a_run, some_record


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


def test_an_export_for_a_target_with_another_input(run: CliRunner, folder: RunFolder, tmp_path: Path) -> None:
    folder.append(some_record(1, 0.65, 2.0, phase="verified", **a_model(folder, "models/one.onnx")))
    command = ["export", str(folder.path), "--trial", "1", "--out", str(tmp_path / "out"), "--target"]
    found = run.invoke(app, [*command, "cpu", "--input", "uint8, nhwc"])
    assert found.exit_code == 0, found.output
    assert "infer_onnxruntime.py" in found.stdout
    assert "build_engine.sh" not in found.stdout
    again = run.invoke(app, [*command, "cpu"])
    assert again.exit_code == 2
    assert again.stderr.startswith("nas: ")
    assert "overwrite it with --force" in again.stderr
    forced = run.invoke(app, [*command, "jetson", "--force"])
    assert "build_engine.sh" in forced.stdout
    for flags, fault in ((["cpu", "--input", "u8"], "--input must be among"), (["toaster"], "target must be one of")):
        refused = run.invoke(app, [*command, *flags, "--force"])
        assert refused.exit_code == 2
        assert fault in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_the_runs_own_target_decides_and_an_unknown_one_is_told(
    run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nas.toml").write_text('[target.mine]\nlike = "jetson"\nssh = "me@board"\n')
    folder = a_run(tmp_path / "runs", records=[], target="mine")
    folder.append(some_record(1, 0.65, 2.0, **a_model(folder, "models/one.onnx")))
    own = run.invoke(app, ["export", str(folder.path), "--trial", "1", "--out", "own"])
    assert "build_engine.sh" in own.stdout
    Path("nas.toml").unlink()
    lost = run.invoke(app, ["export", str(folder.path), "--trial", "1", "--out", "lost"])
    assert lost.exit_code == 0
    assert "target 'mine' is not known here, so the files are for ONNX Runtime" in lost.stderr
    assert "build_engine.sh" not in lost.stdout
