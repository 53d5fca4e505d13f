"""Teacher specifications: what they resolve to, how classes are matched, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nas.data.base import FaceData
from nas.data.classes import FER2013_CLASSES
from nas.distillation.class_orders import KNOWN_ORDERS
from nas.distillation.teachers import find_teachers, match_classes, parse_weight
from nas.errors import ConfigError
from tests.fake_teachers import FACES, brightness_of_quadrants, expressions, in_order, save_answers

N, K = len(FACES.train), len(FACES.classes)


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
    sources = find_teachers([f"{save_answers(tmp_path / 'a.npy')}=3", "votes"], faces_with_votes())

    assert [(s.name, s.weight) for s in sources] == [("a.npy", 0.5), ("votes", 0.5)]
    sources = find_teachers([f"{tmp_path / 'a.npy'}=3", "votes=1", f"{tmp_path / 'a.npy'}"], faces_with_votes())
    assert [s.weight for s in sources] == [0.6, 0.2, 0.2]
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
        (("angry", "happy", "sad", "Anger"), 4, "but names a class twice: angry, happy, sad, angry"),
        (("angry", "happy", "sad"), 4, "but names 3 classes for 4 outputs"),
    ],
)
def test_other_classes_are_refused(teacher_classes: tuple[str, ...] | None, n_outputs: int, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        match_classes("t", teacher_classes, n_outputs, FACES.classes)


def test_the_output_with_a_number_for_each_class_is_taken(tmp_path: Path) -> None:
    teacher = in_order(tmp_path / "t.onnx", FER2013_CLASSES, outputs=("features", "y", "level"))
    (source,) = find_teachers([teacher], expressions())

    assert source.onnx_teacher is not None
    assert source.onnx_teacher.output_name == "y"
    assert "t.onnx has several outputs, of which y is taken" in source.notes
    assert find_teachers([teacher], expressions(), output_name="y")[0].onnx_teacher == source.onnx_teacher
    with pytest.raises(
        ConfigError, match=r"--teacher-output must be an output of .*, one of features, y, level, but got"
    ):
        find_teachers([teacher], expressions(), output_name="logits")
    with pytest.raises(ConfigError, match="has 1024 outputs without names"):
        find_teachers([teacher], expressions(), output_name="features")


def test_outputs_of_which_none_fits_are_refused(tmp_path: Path) -> None:
    teacher = in_order(tmp_path / "t.onnx", FER2013_CLASSES, outputs=("features", "level"))

    with pytest.raises(ConfigError, match="but has features with 1024 numbers, level with 1 numbers; name the output"):
        find_teachers([teacher], expressions())


def test_options_of_a_teacher_without_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="--teacher-classes requires a teacher"):
        find_teachers([], FACES, classes=("a", "b"))
    with pytest.raises(ConfigError, match="--teacher-output requires a teacher"):
        find_teachers([], FACES, output_name="y")


@pytest.mark.parametrize(
    "labels",
    ['{"0": "Sadness", "1": "Anger", "2": "Happiness", "3": "Fear"}', '["Sadness", "Anger", "Happiness", "x"]'],
)
def test_names_of_hugging_face_are_read(tmp_path: Path, labels: str) -> None:
    path = brightness_of_quadrants(tmp_path / "t.onnx")
    model = onnx.load(path)
    helper.set_model_props(model, {"id2label": labels})
    onnx.save(model, path)

    assert find_teachers([str(path)], FACES)[0].class_columns == (1, 2, 0)


def test_names_that_say_nothing_are_ignored(tmp_path: Path) -> None:
    path = Path(in_order(tmp_path / "t.onnx", KNOWN_ORDERS["RAF-DB"]))
    model = onnx.load(path)
    helper.set_model_props(model, {"labels": '["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4", "LABEL_5", "6"]'})
    onnx.save(model, path)

    assert find_teachers([str(path)], expressions())[0].class_columns == (5, 2, 1, 3, 4, 0, 6)


def test_weights_outside_the_file_are_part_of_the_digest(tmp_path: Path) -> None:
    model = onnx.load(in_order(tmp_path / "t.onnx", FER2013_CLASSES))
    path = tmp_path / "e.onnx"
    onnx.save(model, path, save_as_external_data=True, location="e.data", size_threshold=0)
    before = find_teachers([str(path)], expressions())[0].sha256
    data = (tmp_path / "e.data").read_bytes()
    (tmp_path / "e.data").write_bytes((np.frombuffer(data[:28], np.float32) + 1).tobytes() + data[28:])

    assert find_teachers([str(path)], expressions())[0].sha256 != before
    (tmp_path / "e.data").unlink()
    with pytest.raises(ConfigError, match=r"its weights are in .*e\.data, which does not exist"):
        find_teachers([str(path)], expressions())


def save_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def save_npy(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


ANSWERS = np.eye(K)[FACES.train.labels]
NAMES = np.array(["angry", "happy", "sad"])


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda f: save_npy(f / "a.npy", ANSWERS * 1e300), "values beyond float32"),
        (lambda f: save_npy(f / "a.npy", ANSWERS + 1j), "must hold real numbers, but holds complex128"),
        (lambda f: save_npy(f / "a.npy", np.full((N, K), "2020-01-01", "datetime64[D]")), "but holds datetime64"),
        (lambda f: save_npy(f / "a.npy", np.full((N, K), "text")), "must hold real numbers, but holds <U4"),
        (lambda f: save_npy(f / "a.npy", ANSWERS > 0), "must hold real numbers, but holds bool"),
        (lambda f: save_npy(f / "a.npy", np.zeros(3, [("a", "f4")])), "must hold real numbers"),
        (lambda f: save_npy(f / "a.npy", np.zeros((N, 5000), np.float16)), r"but has shape \[24, 5000\]"),
        (lambda f: save_npz(f / "a.npz", answers=ANSWERS), "labels is not a file in the archive"),
        (lambda f: save_npz(f / "a.npz", answers=ANSWERS, labels=np.arange(3)), "`labels` must be a list of words"),
        (lambda f: save_npz(f / "a.npz", answers=ANSWERS, labels=NAMES[None]), "`labels` must be a list of words"),
        (lambda f: save_npz(f / "a.npz", answers=ANSWERS + 1j, labels=NAMES), "but holds complex128"),
        (lambda f: save_npz(f / "a.npz", answers=np.zeros(10**7), labels=NAMES), "it unpacks to 80000[0-9]* bytes"),
    ],
)  # fmt: skip
def test_arrays_of_anything_but_finite_numbers_are_refused_in_one_line(
    tmp_path: Path, make: Callable[[Path], Path], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        find_teachers([str(make(tmp_path))], FACES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".onnx"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00\xff\xff{", b"PK\x03\x04 cut", b"\x00" * 100])
def test_broken_files_are_refused_in_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(ConfigError, match=r"must be an (array|ONNX file)") as caught:
        find_teachers([str(tmp_path / f"a{suffix}")], FACES)
    assert "\n" not in str(caught.value)


def test_an_array_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    header = np.lib.format.header_data_from_array_1_0(np.zeros((1, 1))) | {"shape": (2**40, 2**20)}
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ConfigError, match="must be an array"):
        find_teachers([str(tmp_path / "a.npy")], FACES)


def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = Path(in_order(tmp_path / "t.onnx", FER2013_CLASSES))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -3
    onnx.save(model, path)
    with pytest.raises(ConfigError, match=r"cannot be read as one: 'x' has a dimension of -3") as caught:
        find_teachers([str(path)], expressions())
    assert "\n" not in str(caught.value)


def test_outputs_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = Path(in_order(tmp_path / "t.onnx", FER2013_CLASSES))
    model = onnx.load(path)
    model.graph.node[4].op_type = "Log"  # of 0 and of negative numbers
    model.graph.node[4].input[0] = "off"
    onnx.save(model, path)
    with pytest.raises(ConfigError, match=r"must give a finite row for each of .* images, but gives NaN or infinity"):
        find_teachers([str(path)], expressions())


def test_votes_are_the_soft_labels_of_the_data() -> None:
    (source,) = find_teachers(["votes"], faces_with_votes())

    assert source.outputs is not None
    assert (source.outputs.argmax(1) == FACES.train.labels).all()
    with pytest.raises(ConfigError, match="teacher votes needs annotators' votes with the data, but spots has none"):
        find_teachers(["votes"], FACES)


def test_votes_of_other_annotators_are_calibrated_to_the_labels() -> None:
    # They call angry what the data calls happy and the reverse, and never vote for sad.
    labels = FACES.train.labels
    votes = np.zeros((len(labels), 4), np.float32)
    votes[np.arange(len(labels)), labels] = 10
    data = replace(
        FACES, train=replace(FACES.train, votes=votes), vote_classes=("happiness", "anger", "other", "unknown")
    )

    (source,) = find_teachers(["votes"], data)

    assert source.outputs is not None
    assert source.is_calibrated
    assert (source.outputs.argmax(1) == labels).all()
    # Half a vote is added to each class: the label has 0.5 of 11.5 votes, for sad 0.5 of 1.5.
    before = np.where(labels == FACES.classes.index("sad"), np.log(3), np.log(23)).mean()
    (note,) = source.notes
    assert f"votes are calibrated to the labels: {before:.3f} nats of log-loss before, 0." in note
    swapped = replace(data, train=replace(data.train, votes=votes[:, ::-1].copy()))
    assert find_teachers(["votes"], swapped)[0].sha256 != source.sha256


def test_votes_are_named_once() -> None:
    with pytest.raises(ConfigError, match="teacher votes must be named once, but is named 2 times"):
        find_teachers(["votes", "votes=2"], faces_with_votes())


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
