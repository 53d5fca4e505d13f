"""Training images that are copies of held-out ones are left out, and nothing else."""

from dataclasses import replace

import numpy as np

from nas.data.base import Split
from nas.data.leaks import copies_in, without_leaks
from nas.data.loading import load_data
from tests.data.test_quality_check import planted, smooth


def test_copies_and_near_copies_leave_the_training_split_with_all_that_belongs_to_them() -> None:
    data = planted()

    clean = without_leaks(data)

    assert clean.train_rows is not None
    assert clean.train_rows.tolist() == list(range(2, 20))  # 0 repeats val 0 and 1, and 1 nearly repeats val 2
    assert clean.train.subjects is not None
    assert clean.train.subjects.tolist() == list(range(2, 20))
    np.testing.assert_array_equal(clean.train.images, data.train.images[2:])
    assert clean.val is data.val
    assert clean.digest != data.digest
    assert clean.notes[-1].startswith("2 of 20 training images are left out, because they are copies")


def test_the_test_split_counts_too() -> None:
    data = planted()
    test = Split(images=data.train.images[5:6], labels=np.zeros(1, np.int64))

    rows = without_leaks(replace(data, test=test)).train_rows

    assert rows is not None
    assert 5 not in rows


def test_data_without_leaks_is_the_same_object() -> None:
    data = load_data("synthetic", None)
    assert without_leaks(data) is data
    assert data.train_rows is None


def test_a_constant_image_is_a_copy_of_an_equal_one_only() -> None:
    images = np.stack([np.full((1, 48, 48), value, np.uint8) for value in (7, 8)])
    assert copies_in(images, images[:1]).tolist() == [True, False]


def test_contrast_and_noise_do_not_hide_a_copy_and_similar_faces_are_none() -> None:
    images = smooth(6, 4)
    changed = np.clip(images.astype(float) * 0.9 + np.random.default_rng(0).normal(8, 2, images.shape), 0, 255)
    assert copies_in(images, changed.astype(np.uint8)[:3]).tolist() == [True] * 3 + [False] * 3


def test_every_image_a_copy_leaves_the_data_as_it_is() -> None:
    data = planted()
    same = replace(data, val=data.train)
    assert without_leaks(same) is same
