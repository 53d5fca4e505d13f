"""Class orders of teachers: recognised on images, doubted where the images contradict, refused where unclear."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from nas.data.classes import FER2013_CLASSES
from nas.distillation.class_orders import KNOWN_ORDERS, plausible_accuracy
from nas.distillation.teachers import find_teachers
from nas.errors import ConfigError
from tests.fake_teachers import FACES, expressions, in_order, save_answers


def test_unnamed_outputs_that_fit_no_order_in_number_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(5)[FACES.train.labels])

    with pytest.raises(ConfigError, match="must have the classes angry, happy, sad, but has 5 outputs without names"):
        find_teachers([str(tmp_path / "a.npy")], FACES)


def test_unnamed_answers_in_the_order_of_the_data_are_taken_with_a_note(tmp_path: Path) -> None:
    (source,) = find_teachers([save_answers(tmp_path / "a.npy")], FACES)

    assert source.class_columns == (0, 1, 2)
    assert source.notes == (
        "a.npy does not name its classes; they are taken in the order of data (right on 24 training images: data 100%)",
    )


@pytest.mark.parametrize("order", KNOWN_ORDERS)
def test_a_known_order_of_unnamed_classes_is_recognised(tmp_path: Path, order: str) -> None:
    (source,) = find_teachers([in_order(tmp_path / "t.onnx", KNOWN_ORDERS[order])], expressions())

    assert [KNOWN_ORDERS[order][column] for column in source.class_columns] == list(FER2013_CLASSES)
    assert f"taken in the order of {order} (right on 210 training images: {order} 100%" in source.notes[0]


def test_an_unknown_order_is_refused_unless_it_is_given(tmp_path: Path) -> None:
    order = ("neutral", "sad", "angry", "disgust", "fear", "happy", "surprise")
    teacher = in_order(tmp_path / "t.onnx", order)

    with pytest.raises(
        ConfigError, match=r"known order, but does neither \(right on .*0%.* as its classes 100%"
    ) as caught:
        find_teachers([teacher], expressions())
    assert "--teacher-classes" in str(caught.value)
    (source,) = find_teachers([teacher], expressions(), classes=("Neutral", "sadness", *order[2:]))
    assert [order[column] for column in source.class_columns] == list(FER2013_CLASSES)


@pytest.mark.parametrize("is_own", [True, False])
def test_names_that_contradict_the_images_are_doubted(tmp_path: Path, is_own: bool) -> None:
    path, order = tmp_path / "t.onnx", KNOWN_ORDERS["RAF-DB"]
    teacher = in_order(path, FER2013_CLASSES)
    if is_own:
        model = onnx.load(path)
        helper.set_model_props(model, {"labels": json.dumps(order)})
        onnx.save(model, path)

    (source,) = find_teachers([teacher], expressions(), classes=() if is_own else order)
    (right,) = find_teachers([in_order(tmp_path / "u.onnx", order)], expressions(), classes=order)

    assert [order[column] for column in source.class_columns] == list(FER2013_CLASSES)
    assert (
        "t.onnx is right on 43% of 210 training images by the names of its classes, but on 100% with outputs 0, 1, 2, "
        "3, 4, 5, 6 as the data's classes; check the names"
    ) in source.notes
    assert right.notes == ()


def test_two_swapped_classes_are_noticed(tmp_path: Path) -> None:
    order = ("angry", "fear", "disgust", "happy", "sad", "surprise", "neutral")

    with pytest.raises(ConfigError, match=r"FER2013 71%.*, but outputs 0, 2, 1, 3, 4, 5, 6 as its classes 100%"):
        find_teachers([in_order(tmp_path / "t.onnx", order)], expressions())


def test_a_teacher_that_is_right_on_no_more_than_chance_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(210, 7)))
    np.save(tmp_path / "b.npy", np.zeros((210, 7)))
    with pytest.raises(ConfigError, match=r"does neither \(right on 210 training images: "):
        find_teachers([str(tmp_path / "a.npy")], expressions())
    with pytest.raises(ConfigError, match=r"does neither \(right on .* 0%; at least 19% are needed\)"):
        find_teachers([str(tmp_path / "b.npy")], expressions())


def test_an_array_in_a_known_order_is_recognised(tmp_path: Path) -> None:
    data = expressions()
    order = KNOWN_ORDERS["RAF-DB"]
    rows = np.array([order.index(FER2013_CLASSES[label]) for label in data.train.labels])
    np.save(tmp_path / "a.npy", np.eye(7)[rows])

    assert find_teachers([str(tmp_path / "a.npy")], data)[0].class_columns == (5, 2, 1, 3, 4, 0, 6)


@pytest.mark.parametrize(("n", "limit"), [(49, 0.243), (98, 0.2136), (4900, 0.1857)])
def test_on_few_images_more_is_needed_than_chance_gives(n: int, limit: float) -> None:
    labels = np.arange(n) % 7
    assert plausible_accuracy(labels) == pytest.approx(limit, abs=1e-3)
