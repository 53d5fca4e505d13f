"""Teacher specifications: what they resolve to, how classes are matched, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nas.data.base import FaceData
from nas.distillation.teachers import find_teachers, match_classes, parse_weight
from nas.errors import ConfigError
from tests.conftest import learnable_faces
from tests.fake_teachers import brightness_of_quadrants

FACES = learnable_faces(train=24, val=8)
N, K = len(FACES.train), len(FACES.classes)


def save_zeros(path: Path) -> str:
    np.save(path, np.zeros((N, K), np.float32))
    return str(path)


def faces_with_votes() -> FaceData:
    soft_labels = np.eye(K, dtype=np.float32)[FACES.train.labels]
    return replace(FACES, train=replace(FACES.train, soft_labels=soft_labels))


@pytest.mark.parametrize(
    ("spec", "path", "weight"),
    [("a.onnx", "a.onnx", 1.0), ("a.onnx=2", "a.onnx", 2.0), ("votes=.5", "votes", 0.5), ("x=y.npy", "x=y.npy", 1.0)],
)
def test_specification_is_split_into_path_and_weight(spec: str, path: str, weight: float) -> None:
    assert parse_weight(spec) == (path, weight)


@pytest.mark.parametrize("spec", ["a.onnx=0", "a.onnx=-1", "a.onnx=inf", "a.onnx=nan"])
def test_weight_that_is_not_positive_and_finite_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"a teacher's weight must be positive, but got .* for a.onnx"):
        parse_weight(spec)


def test_weight_without_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="teacher must be PATH or PATH=WEIGHT, but got '=2'"):
        parse_weight("=2")


def test_weights_are_normalised_to_sum_1(tmp_path: Path) -> None:
    sources = find_teachers([f"{save_zeros(tmp_path / 'a.npy')}=3", "votes"], faces_with_votes())

    assert [(s.name, s.weight) for s in sources] == [("a.npy", 0.75), ("votes", 0.25)]
    assert find_teachers([], FACES) == ()


def test_classes_are_matched_by_name() -> None:
    assert match_classes("t", ("Sadness", "happy", "ANGER"), 3, FACES.classes)[0] == (2, 1, 0)


def test_outputs_for_further_classes_are_dropped() -> None:
    columns, notes = match_classes("t", ("fear", "angry", "sad", "happy"), 4, FACES.classes)

    assert columns == (1, 3, 2)
    assert notes == ("t also has fear; its outputs for them are dropped",)


@pytest.mark.parametrize(
    ("teacher_classes", "n_outputs", "fault"),
    [
        (("angry", "happy", "fear"), 3, "must have the classes angry, happy, sad, but lacks sad"),
        (None, 7, "must have the classes angry, happy, sad, but has 7 outputs without names"),
        (("angry", "happy", "sad"), 4, "but names 3 classes for 4 outputs"),
    ],
)
def test_other_classes_are_refused(teacher_classes: tuple[str, ...] | None, n_outputs: int, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        match_classes("t", teacher_classes, n_outputs, FACES.classes)


def test_unnamed_classes_are_taken_in_order_with_a_note() -> None:
    columns, notes = match_classes("t", None, 3, FACES.classes)

    assert columns == (0, 1, 2)
    assert "does not name its classes" in notes[0]


def test_votes_are_the_soft_labels_of_the_data() -> None:
    (source,) = find_teachers(["votes"], faces_with_votes())

    assert source.outputs is not None
    assert (source.outputs.argmax(1) == FACES.train.labels).all()
    with pytest.raises(ConfigError, match="teacher votes needs annotators' votes with the data, but spots has none"):
        find_teachers(["votes"], FACES)


def test_an_array_may_name_its_classes(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, answers=np.zeros((N, 3)), labels=np.array(["sad", "angry", "happy"]))

    assert find_teachers([str(path)], FACES)[0].class_columns == (1, 2, 0)


@pytest.mark.parametrize(("shape", "value"), [((N - 1, K), 0.0), ((N,), 0.0), ((N, K, 1), 0.0), ((N, K), np.nan)])
def test_array_without_a_finite_row_for_each_training_image_is_refused(
    tmp_path: Path, shape: tuple[int, ...], value: float
) -> None:
    np.save(tmp_path / "a.npy", np.full(shape, value))

    with pytest.raises(ConfigError, match="must hold a finite row for each of the 24 training images of spots"):
        find_teachers([str(tmp_path / "a.npy")], FACES)


def broken_array(folder: Path) -> Path:
    (folder / "a.npy").write_text("no array")
    return folder / "a.npy"


def broken_model(folder: Path) -> Path:
    (folder / "a.onnx").write_bytes(b"no model")
    return folder / "a.onnx"


def checkpoint(folder: Path) -> Path:
    (folder / "a.pt").write_bytes(b"weights")
    return folder / "a.pt"


def model_of_vectors(folder: Path) -> Path:
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", K])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", K])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [entry], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "v.onnx")
    return folder / "v.onnx"


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda folder: folder / "none.onnx", "must be a file, a run folder, RUN:KEY, .* but nothing of this name"),
        (lambda folder: folder, "must be a file, a run folder, RUN:KEY, .* but nothing of this name exists"),
        (checkpoint, "a teacher must be an .onnx, .npy or .npz file, a run or the word votes, but got"),
        (broken_array, "must be an array, or .npz with `answers` and `labels`, but is not"),
        (broken_model, "must be an ONNX file, but cannot be read as one"),
        (model_of_vectors, r"must take images \[N, C, H, W\], but its input has 2 axes"),
    ],
)
def test_paths_that_are_not_teachers_are_refused(tmp_path: Path, make: Callable[[Path], Path], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        find_teachers([str(make(tmp_path))], FACES)


def test_classes_of_a_file_are_matched_by_its_labels(tmp_path: Path) -> None:
    path = brightness_of_quadrants(tmp_path / "t.onnx", labels=("Sadness", "Anger", "Happiness", "Fear"))

    (source,) = find_teachers([str(path)], FACES)

    assert source.class_columns == (1, 2, 0)
    with pytest.raises(ConfigError, match=r"teacher t.onnx must have the classes .*, but lacks angry"):
        find_teachers([str(brightness_of_quadrants(path, labels=("sad", "happy", "fear", "disgust")))], FACES)


def test_file_trained_on_other_data_is_noted(tmp_path: Path) -> None:
    path = brightness_of_quadrants(tmp_path / "t.onnx", labels=("angry", "happy", "sad", "fear"), digest="0" * 64)

    (source,) = find_teachers([str(path)], FACES)

    assert any("was trained on other data" in note for note in source.notes)


def test_the_folder_of_an_exported_model_is_a_teacher(tmp_path: Path) -> None:
    path = brightness_of_quadrants(tmp_path / "model.onnx", labels=("angry", "happy", "sad", "fear"))

    assert find_teachers([str(tmp_path)], FACES)[0].sha256 == find_teachers([str(path)], FACES)[0].sha256


def test_scaling_with_the_highest_accuracy_is_taken(tmp_path: Path) -> None:
    """The class of each of 12 images is its brightest quadrant; one of the two files saturates for raw pixels."""
    images = np.zeros((12, 1, 32, 32), np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i % 4, 2)
        image[0, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = 200
        image += 40
    classes = ("angry", "fear", "happy", "sad")
    split = replace(FACES.train, images=images, labels=np.arange(12) % 4)
    data = replace(FACES, classes=classes, train=split)

    raw, unit = (brightness_of_quadrants(tmp_path / f"{peak}.onnx", labels=classes, peak=peak) for peak in (255.0, 1.0))

    assert [s.pixel_scaling for s in find_teachers([str(raw), str(unit)], data)] == ["0..255", "0..1"]
