"""The examples: TOML files are valid, the script of teacher and students shows its table, and the nets are theirs."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from nas.config import read_config
from nas.files import file_sha256
from nas.registry import load
from nas.results.run_folder import RunFolder
from tests.conftest import learnable_faces
from tests.tiny_search import ASSEMBLY, make_quick

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_configuration_is_valid_and_names_members_that_exist(path: Path) -> None:
    config = read_config(path)
    for family, words in {"compressor": config.compression.compressors, "sampler": [config.search.sampler]}.items():
        for word in words:
            load(family, word)
    load("model", config.search.model) if config.search.model else load("space", config.search.space)
    assert f"--config examples/{path.name}" in path.read_text()


def test_students_are_distilled_from_their_teacher_and_all_are_in_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_quick(monkeypatch)
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: learnable_faces(train=32, val=24, test=12))
    flags = f"--teacher resnet8 --students tiny_xception --compare --epochs 1 --threads 1 --runs {tmp_path} --name m"
    monkeypatch.setattr(sys, "argv", ["mini_resemotenet.py", *flags.split(), "--target", "jetson"])
    runpy.run_path(str(EXAMPLES / "mini_resemotenet.py"), run_name="__main__")
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in table if line and line[0].startswith("m-")] == [
        "m-teacher", "m-tiny_xception", "m-tiny_xception-alone"
    ]  # fmt: skip
    head = next(line for line in table if line[:1] == ["run"])
    assert {"weights", "bytes", "MMAC", "accuracy", "frames/s"} <= set(head)
    records_of = {path.name: RunFolder.open_existing(path).records() for path in tmp_path.iterdir()}
    assert {name: [bool(r.teacher) for r in records] for name, records in records_of.items()} == {
        "m-teacher": [False], "m-tiny_xception": [True], "m-tiny_xception-alone": [False]
    }  # fmt: skip


@pytest.mark.parametrize("folder", sorted(path.parent for path in EXAMPLES.glob("fer2013-front/*/golden.npz")))
def test_a_network_of_the_reference_front_is_the_one_that_its_record_and_golden_pair_tell_of(folder: Path) -> None:
    golden, files = np.load(folder / "golden.npz"), sorted(path.name for path in folder.glob("*.onnx"))
    assert "model-int8.onnx" in files
    assert ("model.onnx" in files) == (folder / "record.json").exists()
    if (folder / "record.json").exists():
        assert file_sha256(folder / "model.onnx") == json.loads((folder / "record.json").read_text())["sha256"]
    for name in files:
        session = load("runtime", "onnxruntime").load(folder / name)
        tolerance = 1e-5 if name == "model.onnx" else 0.2
        np.testing.assert_allclose(session.predict(golden["image"]), golden["probabilities"], atol=tolerance)
        session.close()
    assert "research" in (folder / "model_card.md").read_text()


def test_the_files_of_the_reference_front_are_those_that_its_sums_name() -> None:
    front = EXAMPLES / "fer2013-front"
    sums = dict(reversed(line.split("  ")) for line in (front / "SHA256SUMS").read_text().splitlines())
    assert sorted(sums) == sorted(str(path.relative_to(front)) for path in front.rglob("*.onnx"))
    assert {name: file_sha256(front / name) for name in sums} == sums


def test_the_reference_front_stays_small() -> None:
    sizes = [path.stat().st_size for path in EXAMPLES.glob("fer2013-front/**/*") if path.is_file()]
    assert 1e6 < sum(sizes) < 6e6
