"""Export bundle of a run with one real ONNX file whose output numpy can compute."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.errors import ConfigError, ExportError
from nas.input_form import WORDS
from nas.latency.int8_speedup import Int8Speedup
from nas.reporting.bundle import export_model, golden_image
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.runtimes.onnx_input import read_onnx_input
from nas.targets.catalog import load_target
from tests.fake_models import a_classifier
from tests.fake_runs import CLASSES, a_model, a_run, expected_probabilities, some_record


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = a_run(tmp_path / "runs", records=[])
    made.append(some_record(0, 0.5, 1.0, **a_model(made, "models/a.onnx")))
    made.append(some_record(1, None, 9.0, status="infeasible", model="", score=None, reason="too slow"))
    made.write("data.json", json.dumps({"name": "synthetic", "classes": CLASSES, "synthetic": True, "train": 10}))
    return made


def test_the_bundle_has_the_measured_file_and_its_documents(folder: RunFolder, tmp_path: Path) -> None:
    model = export_model(folder, 0, tmp_path / "out")
    assert sorted(f.name for f in model.parent.iterdir()) == [
        "golden.npz",
        "model.onnx",
        "model_card.md",
        "record.json",
    ]
    record = folder.records()[0]
    assert hashlib.sha256(model.read_bytes()).hexdigest() == record.sha256
    assert Record.from_json((model.parent / "record.json").read_text()) == record


def test_the_golden_pair_is_the_output_of_the_file(folder: RunFolder, tmp_path: Path) -> None:
    model = export_model(folder, 0, tmp_path / "out")
    with np.load(model.parent / "golden.npz") as pair:
        image, probabilities = pair["image"], pair["probabilities"]
    assert image.dtype == np.uint8
    assert image.shape == (1, 1, 8, 8)
    np.testing.assert_allclose(probabilities, expected_probabilities(image), atol=1e-5)


def test_the_golden_image_is_the_pattern_of_its_docstring() -> None:
    image = golden_image(3, 40, 48)
    assert image.shape == (1, 3, 40, 48)
    assert image[0, 2, 11, 30] == (31 * 2 + 7 * 11 + 13 * 30 + 11 * 30) % 256


def test_the_model_card_has_figures_and_warnings(folder: RunFolder, tmp_path: Path) -> None:
    export_model(folder, 0, tmp_path / "out")
    card = (tmp_path / "out/model_card.md").read_text()
    for words in (
        "These faces are synthetic",
        "50.00% (95 % interval",
        "1.00 ms [0.600, 1.50] predicted for Jetson Orin Nano",
        "0.2500 ms [0.2450, 0.2575] measured on this host, median of 300 runs",
        "float32 [N, 1, 8, 8]",
        "angry, happy, sad",
        "not know what a person feels",
        "prohibited",
        folder.records()[0].sha256,
    ):
        assert words in card


def test_the_card_of_a_compressed_model_has_ratios_and_lost_recall(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs", records=[])
    model = a_model(folder, "models/a.onnx")
    base = some_record(8, 0.8, 2.0, phase="base", nonzero_params=900, **model)
    slim = some_record(0, 0.5, 1.0, notes=("stage1 has few bits; no latency effect",), packed_bytes=1234, **model)
    slim = replace(
        slim, candidate=replace(slim.candidate, settings={"zeros.stage2": 0.9}),
        gain=Int8Speedup(speedup=1.5, low=1.4, high=1.6, twin_ms=1.5, own_ms=1.0, kind="measured"),
    )  # fmt: skip
    folder.append(base)
    folder.append(slim)
    export_model(folder, 0, tmp_path / "slim")
    export_model(folder, "base", tmp_path / "base")
    card, plain = ((tmp_path / name / "model_card.md").read_text() for name in ("slim", "base"))
    for words in (
        "1,234 bytes", "zeros.stage2 0.9", "1.50 times as fast as FP32 [1.40, 1.60]", "no latency effect",
        "R 10.12 of weights", "| angry | 50.0% | 80.0% |", "angry -30.0 points", "selected on this split",
    ):  # fmt: skip
        assert words in card, words
    assert "| angry | 80.0% |" in plain
    for words in ("uncompressed", "selected on this split", "INT8 speedup"):
        assert words not in plain


def test_a_changed_file_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    (folder.path / "models/a.onnx").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="must have SHA-256"):
        export_model(folder, 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_record_without_a_file_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trial 1 has no model file \(too slow\)"):
        export_model(folder, 1, tmp_path / "out")


def with_classifier(folder: RunFolder, trial: int, **model: Any) -> RunFolder:
    """A record whose file names its classes, as those of a search do."""
    path = a_classifier(folder.path / "models" / f"{trial}.onnx", **model)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    folder.append(some_record(trial, 0.5, 1.0, model=f"models/{trial}.onnx", sha256=digest))
    return folder


def test_a_target_gets_its_files_and_an_executable_script(folder: RunFolder, tmp_path: Path) -> None:
    with_classifier(folder, 2)
    export_model(folder, 2, tmp_path / "out", profile=load_target("jetson"))
    script = tmp_path / "out" / "build_engine.sh"
    assert script.stat().st_mode & 0o111
    assert (tmp_path / "out" / "labels.txt").read_text().split() == list(CLASSES)


def test_classes_come_from_the_data_where_the_file_names_none(folder: RunFolder, tmp_path: Path) -> None:
    export_model(folder, 0, tmp_path / "out", profile=load_target("cpu"))
    assert (tmp_path / "out" / "labels.txt").read_text().split() == list(CLASSES)


def test_a_rewritten_file_has_its_golden_pair_and_its_provenance(folder: RunFolder, tmp_path: Path) -> None:
    with_classifier(folder, 2)
    model = export_model(folder, 2, tmp_path / "out", profile=load_target("jetson"), input_words=WORDS)
    form = read_onnx_input(model).picture_form
    assert form is not None
    assert set(form.words) == set(WORDS)
    with np.load(tmp_path / "out" / "golden.npz") as pair:
        assert (pair["image"].dtype, pair["image"].shape) == (np.uint8, (1, 19, 16, 3))
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    stored = json.loads((tmp_path / "out" / "record.json").read_text())
    assert Record.from_json(json.dumps(stored)) == folder.records()[-1]
    assert stored["export"]["sha256"] == digest
    assert stored["export"]["parity"]["differing_pixels"] == 0
    card, page = ((tmp_path / "out" / name).read_text() for name in ("model_card.md", "README.md"))
    for words in (
        digest,
        "measured file: `",
        "0 of 2,304 pixels",
        "`image`: uint8 [N, height, width, 3], rgb",
        '"uint8"',
    ):
        assert words in card, words
    assert "On 36 test pictures of 9 sizes, all 2,304 pixels" in page


def test_an_input_that_the_file_cannot_take_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--input must be among .* but got 'gray'"):
        export_model(folder, 0, tmp_path / "out", input_words=("gray",))
    with_classifier(folder, 2, shape=(2, 8, 8))
    with pytest.raises(ExportError, match="must take grey or RGB to be given RGB"):
        export_model(folder, 2, tmp_path / "out", input_words=("rgb",))
    assert not (tmp_path / "out").exists()


def test_an_export_is_overwritten_by_force_alone_and_leaves_nothing_of_the_old_one(
    folder: RunFolder, tmp_path: Path
) -> None:
    with_classifier(folder, 2)
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    export_model(folder, 2, out, profile=load_target("jetson"))
    (out / "model.engine").write_bytes(b"of the old model")
    before = (out / "model.onnx").read_bytes()
    with pytest.raises(
        ConfigError, match=r"must not hold an export yet, but has README.md, .* overwrite it with --force"
    ):
        export_model(folder, 0, out, profile=load_target("cpu"))
    assert (out / "model.onnx").read_bytes() == before
    export_model(folder, 0, out, profile=load_target("cpu"), force=True)
    assert (out / "model.onnx").read_bytes() != before
    assert {path.name for path in out.iterdir()} == {
        "notes.txt", "model.onnx", "model_card.md", "golden.npz", "record.json", "infer_onnxruntime.py", "README.md",
        "requirements.txt", "labels.txt",
    }  # fmt: skip
