"""Teachers' answers are asked once and kept, nets learn from them, and a search with a teacher repeats itself."""

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
from nas.data.base import FaceData
from nas.distillation.base import Distillation, Teacher, TeacherEnsemble
from nas.distillation.teacher_outputs import TeacherOutputs, to_logits
from nas.distillation.teachers import find_teachers
from nas.errors import ConfigError
from nas.registry import load
from nas.results.run_folder import RunFolder
from nas.searcher.searcher import search
from nas.training.augment import Augmentation
from nas.training.execution import ExecutionFormat
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


def room(
    folder: Path, *words: Path | str, data: FaceData = FACES, lesson: str = "logits", **more: Any
) -> TeacherOutputs:
    (folder / "locks").mkdir(parents=True, exist_ok=True)
    sources = find_teachers([str(word) for word in words], data)
    return TeacherOutputs(sources=sources, method=load("method", lesson), data=data, folder=RunFolder(folder), **more)


def course(folder: Path, *words: Path | str, **more: Any) -> Distillation:
    return room(folder, *words, **more).build_distillation(temperature=2.0, alpha=0.5)


def test_probabilities_become_their_logarithms() -> None:
    shares = np.array([[0.7, 0.3, 0.0], [0.2, 0.2, 0.6]], np.float32)

    found = to_logits(shares)

    np.testing.assert_allclose(torch.from_numpy(found).softmax(1).numpy(), shares, atol=1e-6)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("rows", [[[0.5, 0.6], [1.0, 0.0]], [[1.5, -0.5], [0.5, 0.5]], [[3.0, 1.0], [0.0, 1.0]]])
def test_logits_stay_as_they_are(rows: list[list[float]]) -> None:
    np.testing.assert_array_equal(to_logits(np.array(rows, np.float32)), np.array(rows, np.float32))


def test_answers_are_in_the_order_of_our_classes(tmp_path: Path, file: Path) -> None:
    (teacher,) = course(tmp_path / "run", file).ensemble.teachers

    means = FACES.train.images.astype(float).reshape(32, 2, 16, 2, 16).mean((2, 4)).reshape(32, 4)
    np.testing.assert_allclose(teacher.logits, means[:, ::-1], rtol=1e-4)


def test_a_teacher_is_asked_once(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    first = course(tmp_path / "run", file, lesson="attention", say=said.append)
    assert said[-1] == "teacher teacher.onnx, layers: 32 of 32 images"
    again = room(tmp_path / "run", file, lesson="attention")
    monkeypatch.setattr(nas.distillation.onnx_teacher.OnnxTeacher, "with_raw_input", None)

    second = again.build_distillation(temperature=2.0, alpha=0.5)

    for mine, theirs in zip(first.ensemble.teachers, second.ensemble.teachers, strict=True):
        np.testing.assert_array_equal(mine.logits, theirs.logits)
        np.testing.assert_array_equal(mine.feature_maps[0].values, theirs.feature_maps[0].values)
        assert mine.feature_maps[0].relative_side == theirs.feature_maps[0].relative_side == 0.5
    (facts,) = json.loads((tmp_path / "run" / "teacher" / "teachers.json").read_text())
    kept = {p.name: p.stat().st_size for p in (tmp_path / "run" / "teacher").glob("*.np*")}
    assert facts["kept_bytes"] == kept
    assert len(kept) == 2


def test_a_teacher_that_has_changed_is_refused(tmp_path: Path, file: Path) -> None:
    course(tmp_path / "run", file)
    brightness_of_quadrants(file, labels=CLASSES)

    with pytest.raises(ConfigError, match=r"was started with another teacher.onnx: the teacher's file has changed"):
        course(tmp_path / "run", file)


def test_a_lesson_on_layers_needs_a_teacher_with_layers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((32, 4)))

    with pytest.raises(ConfigError, match=r"--distill hints needs a teacher with layers, .* but a.npy has none"):
        course(tmp_path / "run", tmp_path / "a.npy", lesson="hints")


def test_several_teachers_are_averaged_by_their_weights(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (2, 32, 4)).astype(np.float32)
    for name, answers in zip("ab", logits, strict=True):
        np.save(tmp_path / f"{name}.npy", answers)

    found = course(tmp_path / "run", f"{tmp_path / 'a.npy'}=3", tmp_path / "b.npy")

    soft = np.exp(logits.astype(float) / 2) / np.exp(logits.astype(float) / 2).sum(2, keepdims=True)
    np.testing.assert_allclose(found.ensemble.probabilities(2.0).numpy(), 0.75 * soft[0] + 0.25 * soft[1], atol=1e-6)
    assert "a.npy" in found.description
    assert "x 0.75" in found.description


def knowing(answers: np.ndarray[Any, Any], alpha: float = 1.0) -> Distillation:
    """A course of one teacher who gives these logits."""
    teacher = Teacher(logits=answers.astype(np.float32), weight=1.0)
    return Distillation(
        method=load("method", "logits"), ensemble=TeacherEnsemble(teachers=[teacher], temperature=1.0, alpha=alpha)
    )


@pytest.mark.parametrize("mixup", [0.0, 0.2])
def test_a_net_learns_what_only_the_teacher_says(mixup: float) -> None:
    """The teacher calls every class by the name of the next one."""
    data = learnable_faces(train=64, val=32, classes=CLASSES, noise=5.0)
    turned = 8 * np.eye(4)[(data.train.labels + 1) % 4]
    recipe = Recipe(lr=2e-2, batch_size=16, mixup_alpha=mixup, augmentation=Augmentation(brightness=0.05))
    net = random_net("plain", seed=3).net
    settings: dict[str, Any] = {"classes": 4, "recipe": recipe, "execution": ExecutionFormat(), "seed": 0}

    train(net, data.train, epochs=20, distillation=knowing(turned), **settings)

    said = predict(net, data.val.images, execution=ExecutionFormat()).argmax(1)
    assert (said == (data.val.labels + 1) % 4).mean() > 0.8


def test_a_teacher_that_does_not_count_changes_nothing() -> None:
    nets = [random_net("plain", seed=3).net for _ in range(2)]
    settings: dict[str, Any] = {"classes": 4, "recipe": Recipe(batch_size=8), "execution": ExecutionFormat(), "seed": 0}

    train(nets[0], FACES.train, epochs=1, **settings)
    train(nets[1], FACES.train, epochs=1, distillation=knowing(np.ones((32, 4)), alpha=0.0), **settings)

    for mine, theirs in zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunFolder]:
    """A tiny search below the test's own folder."""
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: FACES)
    monkeypatch.setattr(SEARCH, "write_report", lambda folders, path: path.write_text("<html>"))
    make_quick(monkeypatch)
    return lambda **fields: search(make_config(**({"runs": tmp_path} | TINY | fields)))


def told(folder: RunFolder) -> list[str]:
    """What each record's file says of its teacher, after making sure that the record says the same."""
    found = []
    for record in folder.records():
        held = {p.key: p.value for p in onnx.load(folder.path / record.model).metadata_props}
        assert held.get("teacher", "") == record.teacher
        found.append(record.teacher)
    return found


def test_the_front_learns_from_the_teacher_and_files_say_so(go: Callable[..., RunFolder], file: Path) -> None:
    folder = go(teacher=(str(file),), distill="attention", name="taught")
    alone = go(name="alone")

    sha = find_teachers([str(file)], FACES)[0].sha256[:12]
    assert told(folder) == ["", f"attention from teacher.onnx {sha} (T 4, alpha 0.7)"]
    assert told(alone) == ["", ""]
    assert folder.records()[0].sha256 == alone.records()[0].sha256
    assert folder.records()[1].sha256 != alone.records()[1].sha256


def test_a_run_teaches_the_next_from_its_start_and_going_on_gives_the_same(go: Callable[..., RunFolder]) -> None:
    first = go(name="first")
    words = {"teacher": (str(first.path),), "distill_during": "search", "distill": "dkd"}
    whole = go(name="whole", **words)
    go(name="parts", **words, verify=0)
    parts = go(name="parts", **words)

    assert all(text.startswith("dkd from ") for text in told(whole))
    assert [r.sha256 for r in parts.records()] == [r.sha256 for r in whole.records()]


def test_a_search_that_is_taught_also_chooses_whom_a_net_learns_from(
    go: Callable[..., RunFolder], file: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "other.npy", 4 * np.eye(4)[FACES.train.labels])
    teachers = (str(file), str(tmp_path / "other.npy"))
    fields: dict[str, Any] = {"sampler": "random", "trials": 12, "verify": 0, "compressors": ("prune_structured",)}
    folder = go(teacher=teachers, distill_during="search", name="choice", **fields)

    both = ["teacher.onnx", "other.npy"]
    names = {"teacher.onnx": both[:1], "other.npy": both[1:], "all": both, "none": []}
    chosen = [str(r.candidate.settings.get("teacher", "all")) for r in folder.records()]
    assert len(set(chosen)) > 1
    for word, text in zip(chosen, told(folder), strict=True):
        assert [name for name in both if name in text] == names[word]


def test_there_is_nothing_to_choose_where_only_the_front_is_taught(go: Callable[..., RunFolder], file: Path) -> None:
    folder = go(teacher=(str(file),), name="final", verify=0)

    assert all("teacher" not in record.candidate.settings for record in folder.records())


def test_a_course_of_a_teacher_that_is_not_there_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(ConfigError, match="the teacher must be one of all, none, but got 'mine'"):
        course(tmp_path / "run", file).for_teacher("mine")


@pytest.mark.parametrize("word", ["gone.onnx", "votes"])
def test_nothing_begins_with_a_teacher_that_does_not_fit(
    go: Callable[..., RunFolder], tmp_path: Path, word: str
) -> None:
    with pytest.raises(ConfigError, match="teacher"):
        go(teacher=(word,))
    assert not list(tmp_path.iterdir())


def test_nothing_begins_with_a_teacher_of_other_classes(go: Callable[..., RunFolder], tmp_path: Path) -> None:
    other = replace(FACES, classes=("a", "b", "c", "d"))
    file = brightness_of_quadrants(tmp_path / "t.onnx", labels=other.classes)

    with pytest.raises(ConfigError, match="must know the classes angry, happy, sad, fear, but lacks angry, happy"):
        go(teacher=(str(file),))
    assert [p.name for p in tmp_path.iterdir()] == ["t.onnx"]
