"""Leaks: training images that also occur in val or test, as equal pixels or as near copies.

A network that has seen a face in training is often right about it whatever it has learned, so that the accuracy
flatters whoever overfits. Of FER2013's 28,709 training images 405 are copies of 300 PublicTest images.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Images
from nas.data.quality_check import (
    NEAR_DUPLICATE_MAX_BITS,
    NEAR_DUPLICATE_MIN_CORRELATION,
    difference_hash,
    pixel_correlations,
    pixel_digests,
)

_BLOCK = 1024


def without_leaks(data: FaceData) -> FaceData:
    """The data with the training images left out that are copies of val or test images; a note says how many.

    Raises nothing: data whose training split would be empty stays as it is.
    """
    held_out = [split.images for split in (data.val, data.test) if split is not None]
    leaked = copies_in(data.train.images, np.concatenate(held_out))
    kept = np.flatnonzero(~leaked)
    if not leaked.any() or not len(kept):
        return data
    note = (
        f"{leaked.sum()} of {len(leaked)} training images are left out, because they are copies or near copies of "
        "images in val or test; --keep-duplicates keeps them"
    )
    return replace(data, train=data.train.select(kept), train_rows=kept, notes=(*data.notes, note))


def copies_in(images: Images, others: Images) -> npt.NDArray[np.bool_]:
    """Whether each image [N, C, H, W] has an exact or near copy among the others [M, C, H, W], [N].

    See `nas.data.quality_check` for what counts as a copy. Constant images have exact copies only.
    """
    found = np.isin(pixel_digests(images), pixel_digests(others))
    varied, varied_others = (np.flatnonzero(_is_varied(each)) for each in (images, others))
    hashes, other_hashes = difference_hash(images)[varied], difference_hash(others)[varied_others]
    both = np.concatenate([images, others])
    for start in range(0, len(varied_others), _BLOCK):
        distances = np.bitwise_count(hashes[:, None] ^ other_hashes[None, start : start + _BLOCK])
        i, j = np.nonzero(distances <= NEAR_DUPLICATE_MAX_BITS)
        pairs = np.stack([varied[i], len(images) + varied_others[start + j]], axis=1)
        pairs = pairs[~found[pairs[:, 0]]]
        for at in range(0, len(pairs), _BLOCK):
            chunk = pairs[at : at + _BLOCK]
            close = pixel_correlations(both, chunk) > NEAR_DUPLICATE_MIN_CORRELATION
            found[chunk[close, 0]] = True
    return found


def _is_varied(images: Images) -> npt.NDArray[np.bool_]:
    flat = images.reshape(len(images), -1)
    varied: npt.NDArray[np.bool_] = flat.min(axis=1) != flat.max(axis=1)
    return varied
