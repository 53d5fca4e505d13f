"""Command line with a board of the user: added, listed, checked, measured, over a real sshd."""

import re
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner, Result

from nas import api
from nas.cli.main import app
from nas.errors import ConfigError
from nas.latency.costs import compute_costs
from nas.latency.predicted.predict import predict_latency
from nas.runtimes.reference_network import reference_path
from nas.targets.catalog import load_target
from tests.runtimes.conftest import PlayedBoard
from tests.shown import plain


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("float.onnx", "int8.onnx"):
        (tmp_path / name).write_bytes(reference_path().read_bytes())
    return tmp_path


def nas(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def add(board: PlayedBoard, host: str = "board") -> Result:
    profile = board.profile(host)
    places = ["--trtexec", str(profile.facts["trtexec"]), "--ssh-config", str(profile.facts["ssh_config"])]
    return nas("targets", "add", "mynano", "--like", "jetson-orin-nano", "--ssh", host, *places)


def test_a_board_is_added_listed_and_checked(board: PlayedBoard, folder: Path) -> None:
    added = add(board)
    assert added.exit_code == 0, added.output
    assert "nas targets check mynano" in added.stdout
    assert re.search(r"mynano .* trtexec_ssh .* measured at board", nas("targets").stdout)
    checked = nas("targets", "check", "mynano")
    assert checked.exit_code == 0, checked.output
    told = plain(checked.stdout)
    assert "ok TensorRT 10.3.0" in told
    assert "ok power mode 15W" in told
    assert re.search(r"ok reference network 0\.1000 ms \[0\.\d{4}, 0\.\d{4}\], drift \+0\.0%", told)


def test_a_board_is_calibrated_and_predictions_say_so(
    board: PlayedBoard, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.targets.calibration_sample.POOL_FACTOR", 1)
    monkeypatch.setattr("nas.targets.calibration.BATCH_SIZE", 12)
    board.play(ms={"*": 2.0})  # which can be learned, and is far from what the profile says
    add(board)
    found = nas("targets", "calibrate", "mynano", "--nets", "12", "--space", "plain")
    assert found.exit_code == 0, found.output
    told = plain(found.stdout)
    assert "mynano: fitted on 12 networks" in told
    assert re.search(
        r"2 networks held out: rank correlation (-?\d\.\d+|nan), mean error \d+\.\d%, within 10 % \d+%", told
    )
    assert "12 of 12 networks measured" in found.stderr
    assert (folder / "nas.calibration" / "mynano.json").exists()
    assert re.search(r"mynano .* measured at board; calibrated, \+-\d+%", nas("targets").stdout)
    predicted = predict_latency(compute_costs(reference_path()), load_target("mynano"))
    assert "calibrated on 12 nets, median error" in predicted.notes[0]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("jetson",), "must be this machine or a board that can be reached"),
        (("cpu", "--nets", "3"), "needs 10 networks or more, but got 3"),
        (("cpu", "--space", "nowhere"), "must be one of"),
    ],
)
def test_a_target_that_cannot_be_calibrated_is_one_line(folder: Path, words: tuple[str, ...], reason: str) -> None:
    found = nas("targets", "calibrate", *words)
    assert found.exit_code == 2
    assert reason in found.stderr
    assert found.stderr.strip().splitlines()[-1].startswith("nas: ")


def test_files_are_reported_in_full_and_compared(board: PlayedBoard, folder: Path) -> None:
    board.play(ms={"candidate-1": 0.2, "candidate-2": 0.15, "*": 0.1})
    add(board)
    found = nas("measure", "float.onnx", "int8.onnx", "--target", "mynano", "--layers")
    assert found.exit_code == 0, found.output
    told = plain(found.stdout)
    assert "0.2000 ms [0.1997, 0.2003] measured on NVIDIA Jetson Orin Nano Developer Kit (15W, clocks locked" in told
    assert "tensorrt 10.3.0, l4t 36.4.3, jetpack 6.2, power_mode 15W" in told
    assert "int8.onnx" in told
    assert "takes 0.750 times as long as float.onnx" in told
    assert "stage1.0.conv || stage1.1.conv 20.0 33.3%" in told


def test_a_board_explains_where_its_time_goes(board: PlayedBoard, folder: Path) -> None:
    board.play(ms={"*": 0.2})
    add(board)
    found = nas("measure", "float.onnx", "--target", "mynano", "--explain")
    assert found.exit_code == 0, found.output
    told = plain(found.stdout)
    # The stand-in: 0.2 ms in a graph, half as much again without one, and 4 and 3 us for the copies.
    for line in ("copy to the GPU 0.0040", "kernels 0.2000", "launch gaps 0.1000", "copy from the GPU 0.0030"):
        assert line in told
    assert "sum 0.3070" in told
    assert "the host needs 0.28 ms to enqueue what the GPU does in 0.3 ms" in told
    assert "power mode 15W, clocks locked at 918 MHz: figures of another mode differ by their clocks" in told
    plain_run = [call for call in board.calls() if not any("exportTimes" in word or "Profile" in word for word in call)]
    assert [word for word in plain_run[-1] if "raph" in word or "Transfers" in word] == []


def test_a_dry_run_lists_the_runs_of_an_explanation_and_of_each_batch(board: PlayedBoard, folder: Path) -> None:
    add(board)
    found = nas("measure", "float.onnx", "--target", "mynano", "--dry-run", "--explain", "--batch", "1,8")
    assert found.exit_code == 0, found.output
    lines = [line for line in found.stdout.splitlines() if "--loadEngine=candidate-1.plan" in line]
    assert sum("--exportProfile=" in line for line in lines) == 2
    assert sum("--exportTimes=" not in line and "--exportProfile=" not in line for line in lines) == 2
    assert not (board.root / "calls.jsonl").exists()


def test_images_a_second_of_a_board_are_of_engines_built_for_each_batch(board: PlayedBoard, folder: Path) -> None:
    board.play(ms={"*": 0.5})
    add(board)
    found = nas("measure", "float.onnx", "--target", "mynano", "--batch", "1,8")
    assert found.exit_code == 0, found.output
    told = plain(found.stdout)
    assert "measured for 8 images at once on NVIDIA Jetson Orin Nano" in told
    assert "GPU time of 8 images in a CUDA graph" in told
    assert re.search(r" 1 1 0\.5000 \[[^\]]*\] 2,000 \[", told)
    assert re.search(r" 8 1 0\.5000 \[[^\]]*\] 16,000 \[", told)
    shapes = {word for call in board.calls() for word in call if word.startswith("--shapes=") and "8x" in word[:20]}
    assert len(shapes) == 1


def test_a_dla_is_a_target_whose_fallback_is_counted(board: PlayedBoard, folder: Path) -> None:
    board.play("8.5", do={"candidate-1": "fall back"})
    places = ["--trtexec", str(board.root / "bin/trtexec"), "--ssh-config", str(board.config), "--ssh", "board"]
    added = nas("targets", "add", "mydla", "--like", "jetson-agx-orin", "--dla", "0", *places)
    assert added.exit_code == 0, added.output
    assert "yours" in added.stdout
    assert load_target("mydla").title.endswith("DLA core 0, yours")
    found = nas("measure", "float.onnx", "int8.onnx", "--target", "mydla")
    assert found.exit_code == 0, found.output
    told = plain(found.stdout)
    assert (
        "DLA core 0: 2 layers fell back to the GPU (SHUFFLE: reshape_after_head.linear, SOFTMAX: head.softmax)" in told
    )
    assert "DLA core 0: no layer fell back to the GPU" in told
    builds = [call for call in board.calls() if any(word.startswith("--onnx=") for word in call)]
    assert all({"--useDLACore=0", "--allowGPUFallback", "--fp16"} <= set(call) for call in builds)
    (first, second) = api.measure_all(["float.onnx", "int8.onnx"], target="mydla")
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert [first[0].dla_fallback, second[0].dla_fallback] == [2, 0]


def test_a_board_whose_tensorrt_has_no_dla_is_one_line(board: PlayedBoard, folder: Path) -> None:
    board.play("11.4")
    places = ["--trtexec", str(board.root / "bin/trtexec"), "--ssh-config", str(board.config), "--ssh", "board"]
    nas("targets", "add", "mydla", "--like", "jetson-agx-orin", "--dla", "0", *places)
    found = nas("measure", "float.onnx", "--target", "mydla")
    assert found.exit_code == 2
    assert "a DLA needs TensorRT 8.2 to 10.7, but board has 11.4.0" in plain(found.output)


def test_a_file_that_fails_shows_its_log_and_the_other_its_figure(board: PlayedBoard, folder: Path) -> None:
    board.play(do={"candidate-1": "fail"})
    add(board)
    found = nas("measure", "float.onnx", "int8.onnx", "--target", "mynano")
    assert found.exit_code == 2
    told = plain(found.stdout)
    assert "no latency: 'float.onnx': trtexec failed with status 1: Error[10]" in told
    assert "Engine could not be created from network" in told
    assert "0.1000 ms" in told


def test_a_dry_run_prints_commands_that_a_shell_can_read(board: PlayedBoard, folder: Path) -> None:
    add(board)
    found = nas("measure", "float.onnx", "--target", "mynano", "--dry-run")
    assert found.exit_code == 0, found.output
    assert "--stronglyTyped" in found.stdout
    assert not (board.root / "calls.jsonl").exists()
    model = onnx.load("float.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(model, "eight.onnx")
    refused = nas("measure", "eight.onnx", "--target", "mynano", "--dry-run")
    assert refused.exit_code == 2
    assert "8 images at once" in refused.stderr


def test_a_board_with_another_key_is_one_line(board: PlayedBoard, folder: Path) -> None:
    add(board, "impostor")
    found = nas("measure", "float.onnx", "--target", "mynano")
    assert found.exit_code == 2
    assert found.stderr.startswith("nas: impostor must show the host key that is known of it, but showed another")
    assert found.stderr.count("\n") == 1


def test_only_a_board_has_a_dry_run_and_a_check(folder: Path) -> None:
    with pytest.raises(ConfigError, match="a dry run needs a board over ssh, but 'cpu' is none"):
        api.dry_run_commands(["float.onnx"], target="cpu")
    with pytest.raises(ConfigError, match="but 'jetson' is predicted; for a board see"):
        api.check_target("jetson")


def test_this_machine_can_be_checked_too(folder: Path) -> None:
    (found,) = api.check_target("cpu")
    assert found.name == "reference network"


def test_a_prediction_lists_its_kernels(folder: Path) -> None:
    predicted, _ = api.measure("float.onnx", target="jetson", runs=20, layers=True)
    assert len(predicted.layers) >= 4
    assert sum(ms for _, ms in predicted.layers) < predicted.latency_ms
