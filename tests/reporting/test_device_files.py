"""Device files as their reader uses them: scripts in an empty folder, trtexec and TensorRT by stand-ins."""

import ast
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hw_profiles._base import FLOAT16_BITS, INT8_BITS
from nas.errors import ConfigError
from nas.input_form import WORDS, requested_form
from nas.onnx_export.input_rewrite import with_input_form
from nas.reporting.bundle import golden_pair
from nas.reporting.device_files import (
    CPU_FILES,
    DEEPSTREAM_FILES,
    TENSORRT_FILES,
    ExportedModel,
    device_files,
    labels_of,
)
from nas.runtimes.onnx_input import read_onnx_model
from nas.runtimes.tensorrt.trtexec import TrtexecInfo, build_and_time_command, read_model_format
from nas.targets.catalog import load_target
from tests.fake_models import LABELS, a_classifier
from tests.runtimes import stand_in_pycuda, stand_in_tensorrt

STAND_IN_TRTEXEC = Path(stand_in_tensorrt.__file__).with_name("stand_in_trtexec.py")
Bundle = Callable[..., Path]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A builder of folders with a model, its golden pair and its device files."""

    def build(target: str, words: tuple[str, ...] = (), *, bits: int = 32, **model: Any) -> Path:
        folder = tmp_path / f"{target}-{'-'.join(words)}"
        folder.mkdir()
        path = a_classifier(folder / "model.onnx", **model)
        if words:
            plain = read_onnx_model(path)
            shape = model.get("shape", (1, 8, 8))
            path.write_bytes(with_input_form(plain, requested_form(words, shape)).SerializeToString())
        image, probabilities = golden_pair(path)
        np.savez(folder / "golden.npz", image=image, probabilities=probabilities)
        exported = ExportedModel(path=path, key="abc", bits={"stage1": bits}, labels=labels_of(path))
        for name, text in device_files(exported, load_target(target)).items():
            (folder / name).write_text(text)
        return folder

    return build


@pytest.mark.parametrize(
    ("target", "words", "files"),
    [
        ("cpu", (), {*CPU_FILES}),
        ("raspberry-pi-5", ("uint8",), {*CPU_FILES}),
        ("jetson", (), {*CPU_FILES, *TENSORRT_FILES, *DEEPSTREAM_FILES}),
        ("cuda", ("nhwc",), {*CPU_FILES, *TENSORRT_FILES, *DEEPSTREAM_FILES}),
        ("jetson-nano", ("uint8",), {*CPU_FILES, *TENSORRT_FILES}),
    ],
)
def test_a_target_gets_the_files_of_its_runtime(
    bundle: Bundle, target: str, words: tuple[str, ...], files: set[str]
) -> None:
    folder = bundle(target, words)
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "golden.npz", *files}
    page = (folder / "README.md").read_text()
    assert page.index("feed pixels as 0..255") < 100
    assert "sad" in page
    assert all(f"| {name} |" in page for name in files)
    assert (folder / "labels.txt").read_text().splitlines() == list(LABELS)


def test_the_scripts_are_formatted_and_run_on_the_python_of_jetpack_5(bundle: Bundle) -> None:
    folder = bundle("jetson")
    scripts = sorted(folder.glob("*.py"))
    assert len(scripts) == 2
    for script in scripts:
        ast.parse(script.read_text(), feature_version=(3, 8))
    ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if ruff is None:
        pytest.skip("ruff, of the extra `lint`, is not installed")
    config = f"--config={Path(__file__).resolve().parents[2] / 'pyproject.toml'}"
    # Programs print; typing of Python 3.8; T20 and UP are of the package's own code.
    subprocess.run([ruff, "check", "-q", "--no-cache", config, "--ignore=T20,UP", *scripts], check=True)
    subprocess.run([ruff, "format", "-q", "--no-cache", config, "--check", *scripts], check=True)


# ONNX Runtime ------------------------------------------------------------------------------------------------------


def in_empty_folder(bundle_folder: Path, *arguments: Any) -> "subprocess.CompletedProcess[str]":
    """Run the script in a process that finds nothing of this package, with the bundle's folder as its own."""
    script = bundle_folder / "infer_onnxruntime.py"
    return subprocess.run(
        [sys.executable, "-P", script, *map(str, arguments)], cwd=bundle_folder, capture_output=True, text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, check=False,
    )  # fmt: skip


def test_onnx_runtime_classifies_pictures_of_any_form_alike(bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (21, 13, 3), dtype=np.uint8)).save(tmp_path / "face.png")
    answers = []
    for words in ((), ("uint8", "nhwc"), WORDS):
        done = in_empty_folder(bundle("cpu", words), tmp_path / "face.png", "--selftest", "--benchmark", "--runs", 20)
        assert done.returncode == 0, done.stderr
        first, probabilities, selftest, latency = done.stdout.splitlines()
        best = first.rpartition(": ")[2]
        assert best in LABELS
        assert probabilities.split()[0] == best
        assert sum(float(word) for word in probabilities.split()[1::2]) == pytest.approx(1, abs=2e-3)
        assert selftest.startswith("selftest passed: probabilities differ by ")
        assert "20 runs: p5 " in latency
        answers.append(probabilities)
    assert len(set(answers)) == 1


def test_pixels_of_0_to_1_are_said_and_scaled_or_refused(bundle: Bundle, tmp_path: Path) -> None:
    face = np.random.default_rng(0).integers(0, 256, (21, 13, 3), dtype=np.uint8)
    arrays = {
        "good": face, "unit": face / 255, "channels_first": face.transpose(2, 0, 1), "binary": face // 128,
        "normalised": face / 127.5 - 1, "infinite": np.full((4, 4), np.inf),
        "words": np.array(["a"]), "deep": face.astype(np.uint16) * 257, "row": face.ravel(),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    Image.fromarray((face[:, :, 0] / 255).astype(np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(face[:, :, 0].astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    Image.fromarray(face[:, :, 0]).save(tmp_path / "eight.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "eight.png").read_bytes()[:60])
    (tmp_path / "empty.jpg").write_bytes(b"")
    names = ["good.npy", "unit.npy", "channels_first.npy", "eight.png", "float.tif", "sixteen.png", "binary.npy",
             "normalised.npy", "infinite.npy", "words.npy", "deep.npy", "row.npy", "broken.png", "empty.jpg",
             "missing.png"]  # fmt: skip
    done = in_empty_folder(bundle("cpu"), *(tmp_path / name for name in names))
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    colour, grey = lines[1:6:2], lines[7:12:2]
    assert len(lines) == 12
    assert len(set(colour)) == len(set(grey)) == 1
    said = done.stderr.splitlines()
    assert len(said) == 11  # two that are scaled, nine that are refused: a line each
    assert said[0] == "unit.npy: its pixels are 0..1, but the model takes 0..255; they are multiplied by 255"
    assert said[1].startswith("float.tif: its pixels are 0..1")
    for line, words in zip(
        said[2:],
        ("every pixel is 0 or 1", "go from -1 to 1", "finite numbers", "shape is", "go from 0 to 65535", "shape is",
         "not a readable picture", "not a readable picture", "No such file"),
        strict=True,
    ):  # fmt: skip
        assert words in line


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--model", "none.onnx", "--selftest"], "must be the ONNX file, but does not exist"),
        (["--model", "README.md", "--selftest"], "must be a file that ONNX Runtime loads"),
        (["--golden", "README.md", "--selftest"], "must be the golden pair"),
        ([], "give pictures, --selftest or --benchmark"),
    ],
)
def test_bad_arguments_get_one_line(bundle: Bundle, arguments: list[str], fault: str) -> None:
    done = in_empty_folder(bundle("cpu"), *arguments)
    assert done.returncode == 2
    assert fault in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_another_answer_fails_the_selftest(bundle: Bundle) -> None:
    folder = bundle("cpu")
    with np.load(folder / "golden.npz") as pair:
        image, probabilities = pair["image"], pair["probabilities"]
    np.savez(folder / "golden.npz", image=image, probabilities=probabilities + np.float32(0.002))
    done = in_empty_folder(folder, "--selftest")
    assert done.returncode == 1
    assert "selftest FAILED: probabilities differ by 0.002, and may by 0.001" in done.stdout


def test_a_picture_longer_than_the_limit_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    Image.new("L", (2, 3000), 77).save(tmp_path / "long.png")
    done = in_empty_folder(bundle("cpu", ("any-size",)), tmp_path / "long.png")
    assert done.returncode == 2
    assert "must have sides of at most 2044 pixels, but has 3000" in done.stderr


# trtexec -----------------------------------------------------------------------------------------------------------


def build(folder: Path, version: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run build_engine.sh with the stand-in for trtexec of a version."""
    (folder / "board.json").write_text(json.dumps({"version": version}))
    trtexec = folder / "trtexec"
    trtexec.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN_TRTEXEC} "$@"\n')
    trtexec.chmod(0o755)
    return subprocess.run(
        ["sh", folder / "build_engine.sh", *arguments], capture_output=True, text=True, cwd="/", check=False,
        env={**os.environ, "TRTEXEC": str(trtexec), "NAS_ROOT": str(folder), **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("version", "bits", "kind"),
    [
        *((version, INT8_BITS, {"qdq": True}) for version in ("8.2", "8.5", "8.6", "10.3", "11.4")),
        ("8.6", FLOAT16_BITS, {"float16": True}),
        ("11.4", FLOAT16_BITS, {"float16": True}),
        ("8.6", 32, {}),
    ],
)
def test_the_engine_is_built_with_the_flags_by_which_a_board_is_measured(
    bundle: Bundle, version: str, bits: int, kind: dict[str, bool]
) -> None:
    folder = bundle("jetson", bits=bits, **kind)
    done = build(folder, version)
    assert done.returncode == 0, done.stderr
    call = json.loads((folder / "calls.jsonl").read_text().splitlines()[-1])
    numbers = (*map(int, version.split(".")), 0)
    trtexec = TrtexecInfo(path="", version=numbers, help_text="" if numbers[0] > 8 else "no such flag")
    measured = build_and_time_command(
        trtexec, read_model_format(folder / "model.onnx"), model_file="", engine_file="", times_file="",
        timing_cache_file="", duration_s=1,
    )  # fmt: skip
    decisive = ("--fp16", "--int8", "--stronglyTyped", "--workspace", "--memPoolSize", "--builderOptimizationLevel")
    assert [w for w in call if w.startswith(decisive)] == [w for w in measured if w.startswith(decisive)]
    assert {"--minShapes=image:1x1x8x8", "--optShapes=image:1x1x8x8", "--maxShapes=image:8x1x8x8"} <= set(call)
    assert ("--skipInference" in call) == (numbers >= (8, 6))
    assert (folder / "model.engine").read_bytes().startswith(b"stand-in")
    assert not (folder / "model.engine.part").exists()
    noted = dict(line.split("=", 1) for line in (folder / "model.engine.txt").read_text().splitlines())
    assert noted["tensorrt"] == version


def test_an_engine_of_any_size_gets_bounds_and_further_flags(bundle: Bundle) -> None:
    folder = bundle("jetson", WORDS)
    done = build(folder, "10.3", "--verbose", "--print", MAX_SIDE="320", MAX_BATCH="1")
    assert done.returncode == 0, done.stderr
    for words in ("--minShapes=image:1x16x16x3", "--optShapes=image:1x16x16x3", "--maxShapes=image:1x320x320x3",
                  "--verbose"):  # fmt: skip
        assert words in done.stdout.split()
    assert "--print" not in done.stdout
    assert not (folder / "model.engine").exists()


def test_what_a_version_cannot_build_is_refused(bundle: Bundle) -> None:
    old = build(bundle("jetson", ("uint8",)), "8.2")
    assert old.returncode == 2
    assert "TensorRT must be 8.5 or newer for this model, but is 8.2" in old.stderr
    weak = build(bundle("jetson", ("rgb", "any-size"), float16=True), "8.6")
    assert weak.returncode == 2
    assert "export it without rgb and any-size, or use TensorRT 10" in weak.stderr


def test_a_failed_build_leaves_no_engine(bundle: Bundle) -> None:
    folder = bundle("jetson")
    (folder / "model.onnx").write_bytes(b"")
    done = build(folder, "10.3")
    assert done.returncode == 2
    assert "build_engine.sh: trtexec 10.3 failed" in done.stderr
    assert not (folder / "model.engine").exists()
    missing = build(folder, "10.3", TRTEXEC="/nowhere/trtexec")
    assert "must name its version, but does not" in missing.stderr


# TensorRT ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run_tensorrt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run infer_tensorrt.py with stand-ins; returns status, output and the calls of pycuda."""

    def run(folder: Path, *arguments: Any, version: str = "10.3.0") -> tuple[int, str, str, list[str]]:
        memory: dict[int, np.ndarray] = {}
        monkeypatch.setitem(sys.modules, "tensorrt", stand_in_tensorrt.package(version, memory))
        calls = stand_in_pycuda.install(monkeypatch, memory)
        monkeypatch.setattr(sys, "argv", ["infer_tensorrt.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(folder / "infer_tensorrt.py"), run_name="__main__")
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err, calls

    return run


def with_engine(folder: Path, *, tensorrt: str = "10.3") -> Path:
    """An engine for the stand-in: its content is the path of the ONNX file."""
    (folder / "model.engine").write_text(str(folder / "model.onnx"))
    (folder / "model.engine.txt").write_text(f"tensorrt={tensorrt}\nboard=a = b\n")
    return folder


@pytest.mark.parametrize(("version", "words"), [("8.6.1", WORDS), ("10.3.0", ()), ("11.4.0", WORDS)])
def test_tensorrt_gives_the_answer_of_onnx_runtime(
    bundle: Bundle, run_tensorrt: Callable[..., Any], tmp_path: Path, words: tuple[str, ...], version: str
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "face.png")
    folder = with_engine(bundle("jetson", words), tensorrt=version)
    arguments = (tmp_path / "face.png", "--selftest", "--benchmark", "--runs", 5)
    status, out, err, calls = run_tensorrt(folder, *arguments, version=version)
    assert status == 0, err
    by_onnx_runtime = in_empty_folder(folder, tmp_path / "face.png").stdout
    assert out.startswith(by_onnx_runtime)
    assert "selftest passed" in out
    assert "of it on the GPU, without copies: median 0.100 ms" in out
    assert (calls[:2], calls[-1]) == (["init", "push"], "pop")


def test_an_engine_of_something_else_is_refused(bundle: Bundle, run_tensorrt: Callable[..., Any]) -> None:
    folder = bundle("jetson")
    assert "must be an engine of this board, but does not exist" in run_tensorrt(folder, "--selftest")[2]
    with_engine(folder, tensorrt="8.6")
    status, _, err, _ = run_tensorrt(folder, "--selftest")
    assert status == 2
    assert "must be built by TensorRT 10.3.0, but was by 8.6; run build_engine.sh again" in err
    with_engine(folder)
    with (folder / "model.engine.txt").open("a") as note:
        note.write("model_sha256=0123\n")
    assert "must be built from model.onnx, but is not" in run_tensorrt(folder, "--selftest")[2]
    with_engine(folder, tensorrt="8.2.1")
    assert "TensorRT must be 8.5 or newer, but is 8.2.1" in run_tensorrt(folder, "--selftest", version="8.2.1")[2]
    with_engine(folder)
    (folder / "model.onnx").write_bytes(b"\x72\xff")
    assert "must be an ONNX file, but cannot be read as one" in run_tensorrt(folder, "--selftest")[2]


# DeepStream --------------------------------------------------------------------------------------------------------


def test_deepstream_gets_raw_pixels_in_the_networks_colour(bundle: Bundle) -> None:
    grey, colour = bundle("jetson"), bundle("jetson", ("rgb", "nhwc"), float16=True)
    assert (grey / "deepstream_labels.txt").read_text() == "angry;happy;sad\n"
    keys = [
        dict(line.split("=", 1) for line in (folder / "config_infer_secondary.txt").read_text().splitlines()
             if "=" in line and not line.startswith("#"))
        for folder in (grey, colour)
    ]  # fmt: skip
    chosen = ("net-scale-factor", "offsets", "model-color-format", "infer-dims", "network-input-order", "network-mode")
    assert [keys[0][key] for key in chosen] == ["1.0", "0.0", "2", "1;8;8", "0", "0"]
    assert [keys[1][key] for key in chosen] == ["1.0", "0.0;0.0;0.0", "0", "8;8;3", "1", "2"]
    assert keys[0]["process-mode"] == "2"
    assert keys[0]["output-blob-names"] == "probabilities"


def test_a_class_that_deepstream_cannot_name_and_an_input_that_is_no_picture_are_refused(tmp_path: Path) -> None:
    path = a_classifier(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match=r"must have a name without ';' .* but one is 'a;b'"):
        device_files(ExportedModel(path=path, key="k", bits={}, labels=["a;b", "c"]), load_target("jetson"))
    odd = a_classifier(tmp_path / "odd.onnx", shape=(2, 4, 4))
    with pytest.raises(ConfigError, match=r"must take pictures of 1 or 3 channels, but takes \[0, 2, 4, 4\]"):
        device_files(ExportedModel(path=odd, key="k", bits={}, labels=["a", "c"]), load_target("cpu"))
