"""Splits by a hash: properties."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.data.splits import split_off

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
SHARES = st.floats(0.05, 0.6)


def images_of(labels: np.ndarray, copies: int = 1) -> np.ndarray:
    """[N, 1, 2, 2] images, of which `copies` in a row are equal."""
    numbers = np.arange(len(labels)) // copies
    return np.stack([np.frombuffer(int(n).to_bytes(4, "little"), np.uint8).reshape(1, 2, 2) for n in numbers])


@QUICK
@given(n=st.integers(2, 60), n_subjects=st.integers(2, 8), share=SHARES, seed=st.integers(0, 99))
def test_subjects_stay_whole_and_the_order_does_not_matter(n: int, n_subjects: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, subjects = rng.integers(0, 3, n), rng.integers(0, n_subjects, n)
    eligible = rng.random(n) < 0.8
    images = images_of(labels)
    chosen = split_off(images, labels, subjects, eligible=eligible, share=share)
    assert not (chosen & ~eligible).any()
    assert not set(subjects[chosen]) & set(subjects[eligible & ~chosen])
    order = rng.permutation(n)
    again = split_off(images[order], labels[order], subjects[order], eligible=eligible[order], share=share)
    np.testing.assert_array_equal(again, chosen[order])


@QUICK
@given(n=st.integers(12, 90), copies=st.integers(1, 3), share=SHARES)
def test_without_subjects_each_class_gives_its_share_and_copies_stay(n: int, copies: int, share: float) -> None:
    labels = (np.arange(n) // copies) % 2
    images = images_of(labels, copies)
    chosen = split_off(images, labels, None, eligible=np.ones(n, bool), share=share)
    for label in (0, 1):
        of_class = labels == label
        assert abs(chosen[of_class].sum() - share * of_class.sum()) <= copies
    kept = {image.tobytes() for image in images[~chosen]}
    assert not kept & {image.tobytes() for image in images[chosen]}
