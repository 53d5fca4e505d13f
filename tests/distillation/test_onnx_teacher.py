"""A stranger's file is asked in our terms: raw pixels [N, C, H, W] in, one row per image out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from nas.distillation.onnx_teacher import RAW_PIXELS, Images, OnnxTeacher, TeacherLayer, fit_to_shape, run_teacher
from nas.distillation.teacher_features import layer_features
from nas.errors import ConfigError
from nas.registry import load
from tests.fake_teachers import brightness_of_quadrants
from tests.random_nets import pictures

RUNTIME = load("runtime", "onnxruntime")


def file_of(path: Path, faces: tuple[int, int, int] = (1, 32, 32), **changes: Any) -> OnnxTeacher:
    return OnnxTeacher(path=brightness_of_quadrants(path / "t.onnx", **changes), image_shape=faces)


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
def test_answers_are_those_of_raw_pixels_whatever_the_file_wants(tmp_path: Path, changes: dict[str, Any]) -> None:
    images = pictures(6, seed=0)

    found = run_teacher(file_of(tmp_path, **changes), images, runtime=RUNTIME)

    np.testing.assert_allclose(found, quadrants(images), rtol=1e-4)


def test_images_are_resized_to_what_the_file_wants(tmp_path: Path) -> None:
    images = np.repeat(np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 1, 2, 2) * 10, 8, 2), 8, 3)

    found = run_teacher(file_of(tmp_path, faces=(1, 16, 16)), images, runtime=RUNTIME)

    np.testing.assert_allclose(found, quadrants(images), atol=1.0)


def test_pixels_are_scaled(tmp_path: Path) -> None:
    images = pictures(3, seed=0)
    file = file_of(tmp_path)

    found = run_teacher(file, images, runtime=RUNTIME, pixel_scaling="-1..1")

    np.testing.assert_allclose(found, quadrants(images) / 127.5 - 1, atol=1e-4)
    np.testing.assert_allclose(
        run_teacher(file, images, runtime=RUNTIME, pixel_scaling=RAW_PIXELS), quadrants(images), rtol=1e-4
    )


def test_each_colour_has_a_scaling_of_its_own(tmp_path: Path) -> None:
    images = pictures(3, seed=0, shape=(3, 32, 32))
    mean, deviation = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])

    file = file_of(tmp_path, faces=(3, 32, 32), shape=(3, 32, 32))
    found = run_teacher(file, images, runtime=RUNTIME, pixel_scaling="ImageNet mean and deviation")

    expected = quadrants((images - mean[:, None, None]) / deviation[:, None, None])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_grey_becomes_rgb_and_rgb_becomes_brightness() -> None:
    grey, colour = pictures(2, seed=0), pictures(2, seed=0, shape=(3, 32, 32))

    assert (fit_to_shape(grey, (3, 32, 32)) == np.repeat(grey, 3, 1)).all()
    weighted = (colour * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdims=True)
    np.testing.assert_allclose(fit_to_shape(colour, (1, 32, 32)), weighted, atol=0.51)


def test_the_last_layer_of_each_size_stands_for_its_stage(tmp_path: Path) -> None:
    assert file_of(tmp_path).feature_layers() == [TeacherLayer(name="maps", shape=(5, 16, 16))]


def test_attention_is_pooled_mirrored_and_of_length_one(tmp_path: Path) -> None:
    images = pictures(5, seed=0)
    said: list[int] = []

    (level,) = layer_features(
        file_of(tmp_path),
        "attention",
        images,
        runtime=RUNTIME,
        pixel_scaling=RAW_PIXELS,
        threads=1,
        on_progress=said.append,
    )

    brightness = images.astype(float).reshape(5, 16, 2, 16, 2).mean((2, 4))
    pooled = (11 * brightness**2).reshape(5, 8, 2, 8, 2).mean((2, 4))  # 11 is the mean of 1, 4, 9, 16, 25
    pooled = (pooled + pooled[:, :, ::-1]) / 2
    expected = pooled / np.sqrt((pooled**2).sum((1, 2), keepdims=True))
    np.testing.assert_allclose(level.values[:, 0].astype(float), expected, atol=2e-3)
    assert (level.relative_side, level.values.dtype, said[-1]) == (0.5, np.float16, 5)


def test_features_have_mean_zero_and_deviation_one(tmp_path: Path) -> None:
    (level,) = layer_features(
        file_of(tmp_path),
        "features",
        pictures(40, seed=0),
        runtime=RUNTIME,
        pixel_scaling=RAW_PIXELS,
        threads=1,
        on_progress=lambda _: None,
    )

    values = level.values.astype(float)
    assert values.shape == (40, 5, 4, 4)
    np.testing.assert_allclose(values.mean((0, 2, 3)), 0, atol=1e-2)
    np.testing.assert_allclose(values.std((0, 2, 3)), 1, atol=1e-2)
    np.testing.assert_allclose(values, values[..., ::-1], atol=1e-2)


def test_a_file_that_does_not_run_is_refused(tmp_path: Path) -> None:
    file = file_of(tmp_path)
    file.model.graph.node[2].op_type = "NoSuchThing"

    with pytest.raises(ConfigError, match="must run on this machine, but does not"):
        run_teacher(file, pictures(1, seed=0), runtime=RUNTIME)
