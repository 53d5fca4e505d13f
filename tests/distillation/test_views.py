"""A view of an image is the same for the teacher and for the student, in any batch and any process."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.data.augment import MEDIUM, MILD, STRONG, Augmentation, augment
from nas.distillation.teacher_outputs import TeacherOutputs
from nas.distillation.teachers import find_teachers
from nas.distillation.views import ViewBank
from nas.errors import StepPausedError
from nas.registry import load
from nas.results.run_folder import RunFolder
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import train
from nas.training.recipe import Recipe
from tests.conftest import learnable_faces
from tests.fake_teachers import brightness_of_quadrants
from tests.random_nets import random_net

CLASSES = ("angry", "happy", "sad", "fear")
FACES = learnable_faces(train=32, val=24, test=12, classes=CLASSES)


@pytest.mark.parametrize("augmentation", [MILD, MEDIUM, STRONG, Augmentation(), Augmentation(erase_probability=1.0)])
def test_the_student_sees_what_the_teacher_was_asked(augmentation: Augmentation) -> None:
    bank = ViewBank(n_images=32, n_views=3, augmentation=augmentation, seed=5)
    images = FACES.train.images
    rows, views = torch.tensor([31, 4, 17, 4]), torch.tensor([0, 1, 2, 0])

    seen = bank.show(torch.from_numpy(images[rows]).float(), rows, views)

    for place, (row, view) in enumerate(zip(rows.tolist(), views.tolist(), strict=True)):
        asked = bank.show_rows(images, slice(16 * (row // 16), 16 * (row // 16) + 16), view)[row % 16]
        assert np.abs(seen[place].numpy() - asked).max() <= 0.51


def test_views_and_seeds_differ_and_another_process_has_the_same() -> None:
    bank, images = ViewBank(n_images=32, n_views=2), FACES.train.images
    first, second = (bank.show_rows(images, slice(0, 32), view) for view in (0, 1))
    other = ViewBank(n_images=32, n_views=2, seed=1).show_rows(images, slice(0, 32), 0)

    assert (first != second).any(axis=(1, 2, 3)).all()
    assert (first != other).any(axis=(1, 2, 3)).mean() > 0.9
    bank.show(torch.zeros(1, 1, 32, 32), torch.tensor([0]), torch.tensor([0]))  # which makes its tables
    assert len(pickle.dumps(bank)) < 2000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(bank)).show_rows(images, slice(0, 32), 1), second)


def test_a_bank_changes_images_as_augmentation_does() -> None:
    images = torch.rand(64, 1, 24, 24, generator=torch.Generator().manual_seed(0)) * 255
    bank = ViewBank(n_images=64, n_views=1, augmentation=STRONG, seed=2)
    rows = torch.arange(64)

    shown = bank.show(images, rows, torch.zeros_like(rows))

    generator = torch.Generator().manual_seed(100_003 * 2)
    assert torch.equal(shown, augment(images, STRONG, generator))


def outputs(folder: Path, file: Path, n_views: int) -> TeacherOutputs:
    return TeacherOutputs(
        sources=find_teachers([str(file)], FACES), method=load("method", "logits"), data=FACES,
        folder=RunFolder(folder), n_views=n_views,
    )  # fmt: skip


def test_teachers_answer_each_view_and_a_pause_keeps_what_is_there(tmp_path: Path) -> None:
    file = brightness_of_quadrants(tmp_path / "teacher.onnx", labels=CLASSES)
    asked = outputs(tmp_path / "run", file, 3)
    pauses = iter([False, True])
    with pytest.raises(StepPausedError, match="have answered 2 of 3 views"):
        asked.compute(lambda: next(pauses))
    stored = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "teacher").glob("*-view*")}
    assert len(stored) == 2
    assert not asked.are_stored
    asked.compute(lambda: True)
    assert asked.are_stored
    assert stored.items() <= {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run" / "teacher").iterdir()}.items()

    ensemble = asked.build_distillation(temperature=2.0, alpha=0.5).ensemble

    assert ensemble.bank is not None
    (teacher,) = ensemble.teachers
    assert teacher.view_logits is not None
    for view in range(3):
        faces = ensemble.bank.show_rows(FACES.train.images, slice(0, 32), view).astype(float)
        means = faces.reshape(32, 2, 16, 2, 16).mean((2, 4)).reshape(32, 4)
        np.testing.assert_allclose(teacher.view_logits[view], means - means.max(1, keepdims=True), atol=0.1)
    assert ensemble.probabilities(1.0).shape == (3, 32, 4)


def test_a_student_of_a_bank_follows_the_answers_to_its_views(tmp_path: Path) -> None:
    """Only the answers to changed images hold what is to be learned: those to unchanged ones say another class."""
    file = brightness_of_quadrants(tmp_path / "teacher.onnx", labels=CLASSES)
    distillation = outputs(tmp_path / "run", file, 4).build_distillation(temperature=1.0, alpha=1.0)
    (teacher,) = distillation.ensemble.teachers
    assert teacher.view_logits is not None
    teacher.logits[:] = [9.0, 0.0, 0.0, 0.0]
    teacher.view_logits[:] = np.array([0.0, 0.0, 9.0, 0.0], np.float16)
    net = random_net("plain", seed=0, classes=4).net

    train(
        net, FACES.train, classes=4, epochs=12, recipe=Recipe(batch_size=16), execution=ExecutionFormat(), seed=0,
        distillation=distillation,
    )  # fmt: skip

    with torch.no_grad():
        answers = net(torch.from_numpy(FACES.train.images).float()).argmax(1)
    assert (answers == 2).all()


def test_answers_of_another_run_beside_are_taken_over(tmp_path: Path) -> None:
    file = brightness_of_quadrants(tmp_path / "teacher.onnx", labels=CLASSES)
    first, second = outputs(tmp_path / "runs" / "a", file, 2), outputs(tmp_path / "runs" / "b", file, 3)
    first.compute(lambda: False)

    assert second.adopt_from_other_runs() == 3
    assert not second.are_stored
    assert second.adopt_from_other_runs() == 0
    for path in (tmp_path / "runs" / "a" / "teacher").glob("*.npy"):
        assert (tmp_path / "runs" / "b" / "teacher" / path.name).read_bytes() == path.read_bytes()


def test_little_time_means_few_views_and_the_number_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = brightness_of_quadrants(tmp_path / "teacher.onnx", labels=CLASSES)
    hurried = replace(outputs(tmp_path / "run", file, 5), max_view_s=0.0)
    hurried.compute(lambda: False)
    assert "teachers answer 1 of 5 views of each training image" in caplog.text
    assert hurried.are_stored

    patient = outputs(tmp_path / "run", file, 5)
    assert patient.are_stored
    bank = patient.build_distillation(temperature=1.0, alpha=0.5).ensemble.bank
    assert bank is not None
    assert bank.n_views == 1
    unhurried = replace(outputs(tmp_path / "other", file, 5), max_view_s=1e6)
    unhurried.compute(lambda: False)
    assert len(list((tmp_path / "other" / "teacher").glob("*-view*"))) == 5
