"""Calibration images: faces and pictures of all kinds pass, noise and constant images do not."""

import numpy as np
import numpy.typing as npt
import pytest

from nas.compression.quantization.calibration_images import check_calibration_images, neighbour_correlation
from nas.data.loading import load_data
from nas.errors import ExportError
from tests.random_nets import pictures


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 4, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_rejected(count: int, channels: int) -> None:
    with pytest.raises(ExportError, match="must be pictures, but these are noise: neighbouring pixels correlate by"):
        check_calibration_images(noise(count, channels, 48, 48))
    bells = np.random.default_rng(1).normal(127, 40, (count, channels, 48, 48)).clip(0, 255).astype(np.uint8)
    with pytest.raises(ExportError, match="noise"):
        check_calibration_images(bells)


def test_constant_and_missing_images_are_rejected() -> None:
    with pytest.raises(ExportError, match="must be pictures, but every one is constant"):
        check_calibration_images(np.full((8, 1, 48, 48), 127, np.uint8))
    with pytest.raises(ExportError, match="need calibration images, but got none"):
        check_calibration_images(np.empty((0, 1, 48, 48), np.uint8))


@pytest.mark.parametrize("count", [1, 2, 64])
def test_pictures_pass(count: int) -> None:
    for seed in range(5):
        check_calibration_images(pictures(count, seed=seed))
    check_calibration_images(load_data("synthetic", None).train.images[:count])


def test_a_few_outliers_among_pictures_pass() -> None:
    mixed = np.concatenate([pictures(20, seed=0), noise(3, 1, 32, 32), np.zeros((3, 1, 32, 32), np.uint8)])
    check_calibration_images(mixed)


def test_correlation_equals_numpys() -> None:
    image = pictures(1, seed=3)
    right = np.corrcoef(image[0, 0, :, 1:].ravel(), image[0, 0, :, :-1].ravel())[0, 1]
    below = np.corrcoef(image[0, 0, 1:].ravel(), image[0, 0, :-1].ravel())[0, 1]
    assert neighbour_correlation(image) == pytest.approx(max(right, below), abs=0.02)
    stripes = np.tile(np.array([0, 255], np.uint8), (1, 1, 32, 16))  # alike from row to row only
    assert neighbour_correlation(stripes) > 0.9
