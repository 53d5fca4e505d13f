"""Splits of images by a hash: of whole subjects where the persons are known, else of a share of each class.

They do not depend on the order of the images, and exact copies of an image stay in one split.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from nas.data.base import Images, Labels

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def split_off(
    images: Images, labels: Labels, subjects: IntArray | None, *, eligible: BoolArray, share: float
) -> BoolArray:
    """Choose the images of a further split, for selection or for the test.

    Args:
        images: [N, C, H, W].
        labels: [N].
        subjects: [N] person of each image, or None if the persons are not known.
        eligible: [N] images that may be chosen.
        share: share of the eligible images to choose, 0..1.

    Returns:
        [N] whether each image is chosen: whole subjects, or about the same share of each class without subjects.
    """
    rows = np.flatnonzero(eligible)
    chosen = np.zeros(len(labels), bool)
    if subjects is not None:
        hashes = np.array([_hash(str(subject).encode()) for subject in subjects])
        return _mark_first_by_hash(hashes, rows, share, chosen)
    hashes = np.array([_hash(image.tobytes()) for image in images])
    for label in np.unique(labels[rows]):
        _mark_first_by_hash(hashes, rows[labels[rows] == label], share, chosen)
    return chosen


def _mark_first_by_hash(hashes: npt.NDArray[np.str_], rows: IntArray, share: float, chosen: BoolArray) -> BoolArray:
    """Mark the first `share` of `rows` by their hashes; equal hashes stay together, and at least one stays unmarked."""
    values, counts = np.unique(hashes[rows], return_counts=True)
    n_before = np.cumsum(counts) - counts
    # A hash is taken while fewer images than the share come before it; -0.5 rounds the share to whole images.
    taken = values[: len(values) - 1][n_before[: len(values) - 1] < max(1, share * len(rows)) - 0.5]
    chosen[rows[np.isin(hashes[rows], taken)]] = True
    return chosen


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
