"""ONNX teachers: raw pixels [N, C, H, W] in, one row per image out, whatever input the file expects."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from nas.distillation.onnx_teacher import RAW_PIXELS, Images, OnnxTeacher, TeacherLayer, fit_to_shape, run_teacher
from nas.distillation.teacher_features import layer_features
from nas.errors import ConfigError
from nas.input_form import WORDS, requested_form
from nas.onnx_export.input_rewrite import with_input_form
from nas.registry import load
from tests.fake_models import a_classifier
from tests.fake_teachers import brightness_of_quadrants
from tests.random_nets import pictures

RUNTIME = load("runtime", "onnxruntime")


def make_teacher(folder: Path, image_shape: tuple[int, int, int] = (1, 32, 32), **changes: Any) -> OnnxTeacher:
    return OnnxTeacher(path=brightness_of_quadrants(folder / "t.onnx", **changes), image_shape=image_shape)


def quadrants(images: Images) -> np.ndarray[Any, Any]:
    """[N, 4] means over channels and quadrants."""
    n, c, h, w = images.shape
    return images.astype(float).reshape(n, c, 2, h // 2, 2, w // 2).mean((1, 3, 5)).reshape(n, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"batch": 1}, {"batch": 4}, {"channels_last": True}, {"shape": (3, 32, 32)},
        {"shape": (3, 32, 32), "channels_last": True}, {"kind": TensorProto.DOUBLE},
    ],
)  # fmt: skip
def test_outputs_are_those_of_raw_pixels_whatever_the_file_expects(tmp_path: Path, changes: dict[str, Any]) -> None:
    images = pictures(6, seed=0)

    outputs = run_teacher(make_teacher(tmp_path, **changes), images, runtime=RUNTIME)

    np.testing.assert_allclose(outputs, quadrants(images), rtol=1e-4)


def test_images_are_resized_to_the_input_of_the_file(tmp_path: Path) -> None:
    images = np.repeat(np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 1, 2, 2) * 10, 8, 2), 8, 3)

    outputs = run_teacher(make_teacher(tmp_path, image_shape=(1, 16, 16)), images, runtime=RUNTIME)

    np.testing.assert_allclose(outputs, quadrants(images), atol=1.0)


def test_pixels_are_scaled(tmp_path: Path) -> None:
    images = pictures(3, seed=0)
    teacher = make_teacher(tmp_path)

    outputs = run_teacher(teacher, images, runtime=RUNTIME, pixel_scaling="-1..1")

    np.testing.assert_allclose(outputs, quadrants(images) / 127.5 - 1, atol=1e-4)
    np.testing.assert_allclose(
        run_teacher(teacher, images, runtime=RUNTIME, pixel_scaling=RAW_PIXELS), quadrants(images), rtol=1e-4
    )


def test_each_colour_channel_has_its_own_scaling(tmp_path: Path) -> None:
    images = pictures(3, seed=0, shape=(3, 32, 32))
    mean, deviation = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])

    teacher = make_teacher(tmp_path, image_shape=(3, 32, 32), shape=(3, 32, 32))
    outputs = run_teacher(teacher, images, runtime=RUNTIME, pixel_scaling="ImageNet mean and deviation")

    expected = quadrants((images - mean[:, None, None]) / deviation[:, None, None])
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


def test_grey_becomes_rgb_and_rgb_becomes_luma() -> None:
    grey, colour = pictures(2, seed=0), pictures(2, seed=0, shape=(3, 32, 32))

    assert (fit_to_shape(grey, (3, 32, 32)) == np.repeat(grey, 3, 1)).all()
    weighted = (colour * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdims=True)
    np.testing.assert_allclose(fit_to_shape(colour, (1, 32, 32)), weighted, atol=0.51)


def test_feature_layers_are_the_last_of_each_map_size(tmp_path: Path) -> None:
    assert make_teacher(tmp_path).feature_layers() == [TeacherLayer(name="maps", shape=(5, 16, 16))]


def test_attention_is_pooled_mirrored_and_of_length_1(tmp_path: Path) -> None:
    images = pictures(5, seed=0)
    progress: list[int] = []

    (attention,) = layer_features(
        make_teacher(tmp_path),
        "attention",
        images,
        runtime=RUNTIME,
        pixel_scaling=RAW_PIXELS,
        threads=1,
        on_progress=progress.append,
    )

    brightness = images.astype(float).reshape(5, 16, 2, 16, 2).mean((2, 4))
    pooled = (11 * brightness**2).reshape(5, 8, 2, 8, 2).mean((2, 4))  # 11 is the mean of 1, 4, 9, 16, 25
    pooled = (pooled + pooled[:, :, ::-1]) / 2
    expected = pooled / np.sqrt((pooled**2).sum((1, 2), keepdims=True))
    np.testing.assert_allclose(attention.values[:, 0].astype(float), expected, atol=2e-3)
    assert (attention.relative_side, attention.values.dtype, progress[-1]) == (0.5, np.float16, 5)


def test_features_have_mean_0_and_deviation_1(tmp_path: Path) -> None:
    (features,) = layer_features(
        make_teacher(tmp_path),
        "features",
        pictures(40, seed=0),
        runtime=RUNTIME,
        pixel_scaling=RAW_PIXELS,
        threads=1,
        on_progress=lambda _: None,
    )

    values = features.values.astype(float)
    assert values.shape == (40, 5, 4, 4)
    np.testing.assert_allclose(values.mean((0, 2, 3)), 0, atol=1e-2)
    np.testing.assert_allclose(values.std((0, 2, 3)), 1, atol=1e-2)
    np.testing.assert_allclose(values, values[..., ::-1], atol=1e-2)


def test_file_that_the_runtime_refuses_is_a_config_error(tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path)
    teacher.model.graph.node[2].op_type = "NoSuchThing"

    with pytest.raises(ConfigError, match="must run on this machine, but does not"):
        run_teacher(teacher, pictures(1, seed=0), runtime=RUNTIME)


@pytest.mark.parametrize("words", [("uint8",), ("nhwc",), WORDS])
def test_a_file_of_another_input_form_answers_as_the_plain_one(tmp_path: Path, words: tuple[str, ...]) -> None:
    plain, changed = a_classifier(tmp_path / "plain.onnx", shape=(1, 32, 32)), tmp_path / "changed.onnx"
    onnx.save(with_input_form(onnx.load(plain), requested_form(words, (1, 32, 32))), changed)
    images = pictures(6, seed=0)
    expected, got = (
        run_teacher(OnnxTeacher(path=path, image_shape=(1, 32, 32)), images, runtime=RUNTIME)
        for path in (plain, changed)
    )
    np.testing.assert_array_equal(got, expected)
    OnnxTeacher(path=changed, image_shape=(1, 32, 32)).check_runs()


def test_a_file_whose_form_contradicts_its_input_is_refused(tmp_path: Path) -> None:
    model = onnx.load(a_classifier(tmp_path / "m.onnx"))
    model.metadata_props.add(key="input_form", value=requested_form(["nhwc"], (1, 8, 8)).to_json())
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="cannot be read as one: its metadata say that it takes"):
        OnnxTeacher(path=tmp_path / "m.onnx", image_shape=(1, 8, 8)).check_runs()
