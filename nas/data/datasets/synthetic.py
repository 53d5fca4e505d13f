"""Synthetic faces drawn by code: no download, no picture of a person, and hard enough that larger nets score better.

Identity, pose, light, occlusion, noise and label noise are random; splits are by subject. Every report of an accuracy
on these faces calls it synthetic: it shows that the pipeline works, not how a net performs on people.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas.data.base import Dataset, FaceData, Images, Split
from nas.data.cache import load_cached
from nas.data.classes import FER2013_CLASSES
from nas.data.face_drawing import Array, render_faces
from nas.data.options import DatasetOptions, parse_options
from nas.data.synthetic_subjects import draw_face_parameters, draw_subjects
from nas.errors import DataError

LABEL_NOISE = 0.05
"""Share of training labels replaced by another class. Labels of val and test are correct."""

_CLASS_FREQUENCIES = np.array([0.16, 0.10, 0.14, 0.19, 0.14, 0.12, 0.15])
_FACES_PER_SUBJECT = 40
_CHUNK = 128
"""Faces drawn at once."""


class _Options(DatasetOptions):
    size: int = Field(default=48, ge=32, le=112)
    n: int = Field(default=7000, ge=200, le=100_000)
    seed: int = Field(default=0, ge=0)
    channels: Literal["1", "3"] = "1"


class SyntheticDataset(Dataset):
    """Options: `size` (pixels, 48), `n` (faces in all, 7000), `seed` (0), `channels` (1 or 3)."""

    name = "synthetic"

    def load(self, path: Path | None, *, cache: Path, options: Mapping[str, str]) -> FaceData:
        """Draw the faces; see `Dataset.load`.

        Raises:
            DataError: a path is given, or an option does not fit.
        """
        if path is not None:
            raise DataError(f"synthetic faces are drawn by code and need no path, but got {path}; leave it out")
        checked = parse_options(_Options, options, dataset=self.name)
        return load_cached(cache, lambda: _generate(checked), dataset=self.name, settings=checked.model_dump())


def _generate(options: _Options) -> FaceData:
    """Draw the data set: about 70 % of the subjects in train, 15 % each in val and test."""
    rng = np.random.default_rng(options.seed)
    n_subjects = max(10, options.n // _FACES_PER_SUBJECT)
    subjects = draw_subjects(n_subjects, rng)
    ids = rng.integers(n_subjects, size=options.n)
    labels = rng.choice(len(FER2013_CLASSES), size=options.n, p=_CLASS_FREQUENCIES)
    images, affect = _render_images(subjects, ids, labels, options, rng)
    # Subjects are drawn independently, so their numbers can decide the split.
    val, test = ids % 20 < 3, (ids % 20 >= 3) & (ids % 20 < 6)
    train = ~(val | test)
    labels = np.where(train, _with_label_noise(labels, rng), labels)

    def split(chosen: npt.NDArray[np.bool_]) -> Split:
        return Split(images=images[chosen], labels=labels[chosen], subjects=ids[chosen], affect=affect[chosen])

    return FaceData(
        name="synthetic",
        classes=FER2013_CLASSES,
        train=split(train),
        val=split(val),
        test=split(test),
        synthetic=True,
        notes=("faces are drawn by code; accuracy on them says nothing about people",),
    )


def _with_label_noise(labels: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    n_classes = len(FER2013_CLASSES)
    wrong = (labels + rng.integers(1, n_classes, size=len(labels))) % n_classes
    return np.where(rng.random(len(labels)) < LABEL_NOISE, wrong, labels)


def _render_images(
    subjects: dict[str, Array],
    subject_ids: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    options: _Options,
    rng: np.random.Generator,
) -> tuple[Images, Array]:
    face, affect = draw_face_parameters(subjects, subject_ids, labels, rng)
    images = np.empty((len(subject_ids), int(options.channels), options.size, options.size), np.uint8)
    for start in range(0, len(subject_ids), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        luminance, skin = render_faces({name: values[chunk] for name, values in face.items()}, size=options.size)
        images[chunk] = _simulate_camera(_occlude(luminance, rng), skin, int(options.channels), rng)
    return images, affect


def _occlude(image: Array, rng: np.random.Generator) -> Array:
    """Cover a part of every fifth image with a uniform block, as a hand or a scarf would."""
    n, side, _ = image.shape
    line = (np.arange(side, dtype=np.float32) + 0.5) / side
    centre, half = rng.uniform(0, 1, (2, n, 1)), rng.uniform(0.06, 0.2, (2, n, 1))
    inside = np.abs(line - centre) < half  # [2, N, S]
    block = inside[0][:, :, None] & inside[1][:, None, :] & (rng.random((n, 1, 1)) < 0.2)
    return np.where(block, rng.uniform(0.1, 0.9, (n, 1, 1)).astype(np.float32), image)


def _simulate_camera(image: Array, skin: Array, channels: int, rng: np.random.Generator) -> Images:
    """Apply contrast, exposure, tint and noise: luminance [N, S, S] to pixels [N, C, S, S] uint8."""
    n, side, _ = image.shape
    contrast = rng.uniform(0.7, 1.2, (n, 1, 1)).astype(np.float32)
    exposure = rng.normal(0, 0.08, (n, 1, 1)).astype(np.float32)
    noise = rng.uniform(0.005, 0.025, (n, 1, 1, 1)).astype(np.float32)
    exposed = ((image - 0.45) * contrast + 0.45 + exposure)[:, None]  # [N, 1, S, S]
    if channels == 3:
        tint = np.array([0.12, 0.0, -0.1], np.float32)[None, :, None, None]
        exposed = exposed * (1 + tint * skin[:, None])
    grain = rng.standard_normal((n, channels, side, side), np.float32) * noise
    return np.clip((exposed + grain) * 255 + 0.5, 0, 255).astype(np.uint8)


DATASET = SyntheticDataset()
