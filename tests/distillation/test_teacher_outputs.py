"""Teacher outputs are computed once and stored, students are trained on them, and a resumed search repeats itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import nas.distillation.onnx_teacher
from nas.config import make_config
from nas.data.augment import Augmentation
from nas.data.base import FaceData
from nas.distillation.base import Distillation, Teacher, TeacherEnsemble
from nas.distillation.teacher_outputs import TeacherOutputs, to_logits
from nas.distillation.teachers import find_teachers
from nas.errors import ConfigError
from nas.registry import load
from nas.results.run_folder import RunFolder
from nas.searcher.searcher import search
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import predict, train
from nas.training.recipe import Recipe
from tests.conftest import learnable_faces
from tests.fake_teachers import brightness_of_quadrants
from tests.random_nets import random_net
from tests.tiny_search import ASSEMBLY, SEARCH, make_quick

CLASSES = ("angry", "happy", "sad", "fear")
FACES = learnable_faces(train=32, val=24, test=12, classes=CLASSES)
TINY: dict[str, Any] = {
    "target": "jetson", "space": "plain", "trials": 1, "epochs": 0.5, "rungs": (1.0,), "verify": 1, "final_epochs": 1,
    "threads": 1,
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return brightness_of_quadrants(tmp_path / "teacher.onnx", labels=tuple(reversed(CLASSES)))


def teacher_outputs(folder: Path, *specs: Path | str, method: str = "logits", **fields: Any) -> TeacherOutputs:
    (folder / "locks").mkdir(parents=True, exist_ok=True)
    sources = find_teachers([str(spec) for spec in specs], FACES)
    return TeacherOutputs(
        sources=sources, method=load("method", method), data=FACES, folder=RunFolder(folder), **fields
    )


def distillation(folder: Path, *specs: Path | str, **fields: Any) -> Distillation:
    return teacher_outputs(folder, *specs, **fields).build_distillation(temperature=2.0, alpha=0.5)


def test_probabilities_become_their_logarithms() -> None:
    probabilities = np.array([[0.7, 0.3, 0.0], [0.2, 0.2, 0.6]], np.float32)

    logits = to_logits(probabilities)

    np.testing.assert_allclose(torch.from_numpy(logits).softmax(1).numpy(), probabilities, atol=1e-6)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("rows", [[[0.5, 0.6], [1.0, 0.0]], [[1.5, -0.5], [0.5, 0.5]], [[3.0, 1.0], [0.0, 1.0]]])
def test_logits_are_unchanged(rows: list[list[float]]) -> None:
    np.testing.assert_array_equal(to_logits(np.array(rows, np.float32)), np.array(rows, np.float32))


def test_logits_are_in_the_order_of_the_data_classes(tmp_path: Path, file: Path) -> None:
    (teacher,) = distillation(tmp_path / "run", file).ensemble.teachers

    means = FACES.train.images.astype(float).reshape(32, 2, 16, 2, 16).mean((2, 4)).reshape(32, 4)
    np.testing.assert_allclose(teacher.logits, means[:, ::-1], rtol=1e-4)


def test_outputs_are_computed_once(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    first = distillation(tmp_path / "run", file, method="attention", log=lines.append)
    assert lines[-1] == "teacher teacher.onnx, layers: 32 of 32 images"
    reopened = teacher_outputs(tmp_path / "run", file, method="attention")
    monkeypatch.setattr(nas.distillation.onnx_teacher.OnnxTeacher, "with_raw_input", None)

    second = reopened.build_distillation(temperature=2.0, alpha=0.5)

    for computed, stored in zip(first.ensemble.teachers, second.ensemble.teachers, strict=True):
        np.testing.assert_array_equal(computed.logits, stored.logits)
        np.testing.assert_array_equal(computed.feature_maps[0].values, stored.feature_maps[0].values)
        assert computed.feature_maps[0].relative_side == stored.feature_maps[0].relative_side == 0.5
    (facts,) = json.loads((tmp_path / "run" / "teacher" / "teachers.json").read_text())
    file_bytes = {p.name: p.stat().st_size for p in (tmp_path / "run" / "teacher").glob("*.np*")}
    assert facts["kept_bytes"] == file_bytes
    assert len(file_bytes) == 2


def test_changed_teacher_file_is_refused(tmp_path: Path, file: Path) -> None:
    distillation(tmp_path / "run", file)
    brightness_of_quadrants(file, labels=CLASSES)

    with pytest.raises(ConfigError, match=r"was started with another teacher.onnx: the teacher's file has changed"):
        distillation(tmp_path / "run", file)


def test_feature_method_needs_a_teacher_with_layers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", answers=np.zeros((32, 4)), labels=CLASSES)

    with pytest.raises(ConfigError, match=r"--distill hints needs a teacher with layers, .* but a.npz has none"):
        distillation(tmp_path / "run", tmp_path / "a.npz", method="hints")


def test_several_teachers_are_averaged_by_their_weights(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (2, 32, 4)).astype(np.float32)
    for name, rows in zip("ab", logits, strict=True):
        np.savez(tmp_path / f"{name}.npz", answers=rows, labels=CLASSES)

    result = distillation(tmp_path / "run", f"{tmp_path / 'a.npz'}=3", tmp_path / "b.npz")

    soft = np.exp(logits.astype(float) / 2) / np.exp(logits.astype(float) / 2).sum(2, keepdims=True)
    np.testing.assert_allclose(
        result.ensemble.probabilities(2.0)[0].numpy(), 0.75 * soft[0] + 0.25 * soft[1], atol=1e-6
    )
    assert "a.npz" in result.description
    assert "x 0.75" in result.description


def distillation_from(logits: np.ndarray[Any, Any], alpha: float = 1.0) -> Distillation:
    """Distillation from one teacher with these logits."""
    teacher = Teacher(logits=logits.astype(np.float32), weight=1.0)
    return Distillation(
        method=load("method", "logits"), ensemble=TeacherEnsemble(teachers=[teacher], temperature=1.0, alpha=alpha)
    )


@pytest.mark.parametrize("mixup", [0.0, 0.2])
def test_student_reproduces_the_teacher_where_it_contradicts_the_labels(mixup: float) -> None:
    """The teacher predicts the class after the label."""
    data = learnable_faces(train=64, val=32, classes=CLASSES, noise=5.0)
    shifted = 8 * np.eye(4)[(data.train.labels + 1) % 4]
    recipe = Recipe(lr=2e-2, batch_size=16, mixup_alpha=mixup, augmentation=Augmentation(brightness=0.05))
    net = random_net("plain", seed=3).net
    settings: dict[str, Any] = {"classes": 4, "recipe": recipe, "execution": ExecutionFormat(), "seed": 0}

    train(net, data.train, epochs=20, distillation=distillation_from(shifted), **settings)

    predicted = predict(net, data.val.images, execution=ExecutionFormat()).argmax(1)
    assert (predicted == (data.val.labels + 1) % 4).mean() > 0.8


def test_alpha_0_trains_as_without_a_teacher() -> None:
    nets = [random_net("plain", seed=3).net for _ in range(2)]
    settings: dict[str, Any] = {"classes": 4, "recipe": Recipe(batch_size=8), "execution": ExecutionFormat(), "seed": 0}

    train(nets[0], FACES.train, epochs=1, **settings)
    train(nets[1], FACES.train, epochs=1, distillation=distillation_from(np.ones((32, 4)), alpha=0.0), **settings)

    for plain, distilled in zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True):
        torch.testing.assert_close(plain, distilled, rtol=1e-4, atol=1e-5)


@pytest.fixture
def run_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunFolder]:
    """A tiny search below the test's own folder."""
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: FACES)
    monkeypatch.setattr(SEARCH, "write_report", lambda folders, path: path.write_text("<html>"))
    make_quick(monkeypatch)
    return lambda **fields: search(make_config(**({"runs": tmp_path} | TINY | fields)))


def recorded_teachers(folder: RunFolder) -> list[str]:
    """The teacher of each record, after checking that the metadata of its file names the same one."""
    teachers = []
    for record in folder.records():
        metadata = {p.key: p.value for p in onnx.load(folder.path / record.model).metadata_props}
        assert metadata.get("teacher", "") == record.teacher
        teachers.append(record.teacher)
    return teachers


def test_front_is_distilled_and_records_name_the_teacher(run_search: Callable[..., RunFolder], file: Path) -> None:
    folder = run_search(teacher=(str(file),), distill="attention", name="distilled")
    plain = run_search(name="plain")

    sha = find_teachers([str(file)], FACES)[0].sha256[:12]
    assert recorded_teachers(folder) == ["", f"attention from teacher.onnx {sha} (T 1, alpha 0.9)"]
    assert recorded_teachers(plain) == ["", ""]
    assert folder.records()[0].sha256 == plain.records()[0].sha256
    assert folder.records()[1].sha256 != plain.records()[1].sha256


def test_run_as_teacher_of_a_search_and_resuming_repeats_it(run_search: Callable[..., RunFolder]) -> None:
    first = run_search(name="first")
    fields = {"teacher": (str(first.path),), "distill_during": "search", "distill": "dkd"}
    whole = run_search(name="whole", **fields)
    run_search(name="parts", **fields, verify=0)
    parts = run_search(name="parts", **fields)

    assert all(text.startswith("dkd from ") for text in recorded_teachers(whole))
    assert [r.sha256 for r in parts.records()] == [r.sha256 for r in whole.records()]


def test_distillation_during_the_search_adds_the_teacher_gene(
    run_search: Callable[..., RunFolder], file: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "other.npy", 4 * np.eye(4)[FACES.train.labels])
    teachers = (str(file), str(tmp_path / "other.npy"))
    fields: dict[str, Any] = {"sampler": "random", "trials": 12, "verify": 0, "compressors": ("prune_structured",)}
    folder = run_search(teacher=teachers, distill_during="search", name="choice", **fields)

    both = ["teacher.onnx", "other.npy"]
    expected = {"teacher.onnx": both[:1], "other.npy": both[1:], "all": both, "none": []}
    values = [str(r.candidate.settings.get("teacher", "all")) for r in folder.records()]
    assert len(set(values)) > 1
    for value, text in zip(values, recorded_teachers(folder), strict=True):
        assert [name for name in both if name in text] == expected[value]


def test_distillation_of_the_front_alone_adds_no_gene(run_search: Callable[..., RunFolder], file: Path) -> None:
    folder = run_search(teacher=(str(file),), name="final", verify=0)

    assert all("teacher" not in record.candidate.settings for record in folder.records())


def test_unknown_teacher_name_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(ConfigError, match="the teacher must be one of all, none, but got 'mine'"):
        distillation(tmp_path / "run", file).for_teacher("mine")


@pytest.mark.parametrize("spec", ["gone.onnx", "votes"])
def test_missing_teacher_is_refused_before_a_run_folder_exists(
    run_search: Callable[..., RunFolder], tmp_path: Path, spec: str
) -> None:
    with pytest.raises(ConfigError, match="teacher"):
        run_search(teacher=(spec,))
    assert not list(tmp_path.iterdir())


def test_teacher_of_other_classes_is_refused_before_a_run_folder_exists(
    run_search: Callable[..., RunFolder], tmp_path: Path
) -> None:
    other = replace(FACES, classes=("a", "b", "c", "d"))
    file = brightness_of_quadrants(tmp_path / "t.onnx", labels=other.classes)

    with pytest.raises(ConfigError, match="must have the classes angry, happy, sad, fear, but lacks angry, happy"):
        run_search(teacher=(str(file),))
    assert [p.name for p in tmp_path.iterdir()] == ["t.onnx"]


def votes_beside_labels() -> FaceData:
    """The faces with ten votes of other annotators for each: nine for the label, one for the class after it."""
    train = FACES.train
    votes = 9 * np.eye(len(CLASSES), dtype=np.float32)[train.labels]
    votes += np.eye(len(CLASSES), dtype=np.float32)[(train.labels + 1) % len(CLASSES)]
    return replace(FACES, train=replace(train, votes=votes), vote_classes=FACES.classes)


def test_votes_and_a_file_are_pooled_in_every_view(tmp_path: Path, file: Path) -> None:
    data = votes_beside_labels()
    outputs = TeacherOutputs(
        sources=find_teachers([str(file), "votes"], data), method=load("method", "logits"), data=data,
        folder=RunFolder(tmp_path), n_views=2,
    )  # fmt: skip
    outputs.compute(lambda: False)
    built = outputs.build_distillation(temperature=1.0, alpha=1.0)

    got = built.ensemble.probabilities(1.0)

    network, votes = (built.by_teacher[name].ensemble.probabilities(1.0) for name in (file.name, "votes"))
    expected = (network.clamp_min(1e-8) * votes).sqrt()
    assert got.shape == (2, len(data.train), len(CLASSES))
    assert torch.allclose(got, expected / expected.sum(2, keepdim=True), atol=1e-5)
    assert not torch.allclose(network[0], network[1])
    assert torch.equal(votes[0], votes[1])
    recorded = json.loads((tmp_path / "teacher" / "teachers.json").read_text())
    assert "votes are calibrated to the labels" in recorded[1]["notes"][0]


def test_votes_alone_need_no_bank_of_views(tmp_path: Path) -> None:
    data = votes_beside_labels()
    outputs = TeacherOutputs(
        sources=find_teachers(["votes"], data), method=load("method", "logits"), data=data, folder=RunFolder(tmp_path),
        n_views=32,
    )  # fmt: skip

    built = outputs.build_distillation(temperature=1.0, alpha=1.0)

    assert built.ensemble.bank is None
    assert built.ensemble.probabilities(1.0).shape == (1, len(data.train), len(CLASSES))
