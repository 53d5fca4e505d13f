"""Quality check of a data set: duplicates within and across splits, label conflicts, constant images, class balance.

Exact duplicates have equal pixels. Near duplicates meet two conditions:
- Difference hashes (N. Krawetz, "Kind of like that", 2013) that differ in at most `NEAR_DUPLICATE_MAX_BITS` of 64 bits.
- Pixels that correlate above `NEAR_DUPLICATE_MIN_CORRELATION`, which excludes aligned faces that are merely similar.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Images, Split

NEAR_DUPLICATE_MAX_BITS = 4
NEAR_DUPLICATE_MIN_CORRELATION = 0.98
_BLOCK = 1024
"""Images compared with all later ones at once: 1024 x 32,000 differences of 64-bit hashes take 262 MB."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """Result of `check_quality`. Splits are named train, val and test.

    Attributes:
        name: of the data set.
        digest: of the data set.
        class_counts: images by split and class name.
        duplicate_groups: groups of two or more images with equal pixels, over all splits.
        duplicates_within: images by split that repeat an earlier one of the same split.
        duplicates_across: images of the first split that also occur in the second, by (first, second). Images of val
            and test in train are a leak.
        label_conflict_groups: groups of equal images with different labels.
        near_duplicates_across: as `duplicates_across`, images that have a near but no exact duplicate there.
        near_duplicates_within: pairs of near duplicates by split.
        constant_images: images by split whose pixels all have one value.
        shared_subjects: persons who occur in both splits, by (first, second); empty if the persons are not known.
        notes: of the data set.
    """

    name: str
    digest: str
    class_counts: dict[str, dict[str, int]]
    duplicate_groups: int
    duplicates_within: dict[str, int]
    duplicates_across: dict[tuple[str, str], int]
    label_conflict_groups: int
    near_duplicates_across: dict[tuple[str, str], int]
    near_duplicates_within: dict[str, int]
    constant_images: dict[str, int]
    shared_subjects: dict[tuple[str, str], int]
    notes: tuple[str, ...]

    def class_balance_rows(self) -> list[tuple[str, ...]]:
        """Class balance as rows of text: a header, one row per class with count and share, and the totals."""
        splits = tuple(self.class_counts)
        totals = {split: sum(by_class.values()) for split, by_class in self.class_counts.items()}
        rows = [
            (
                name,
                *(
                    f"{self.class_counts[s][name]} ({self.class_counts[s][name] / max(1, totals[s]):.1%})"
                    for s in splits
                ),
            )
            for name in next(iter(self.class_counts.values()))
        ]
        return [("class", *splits), *rows, ("all", *(str(totals[s]) for s in splits))]

    def count_findings(self) -> list[tuple[str, int]]:
        """Description and count of every kind of finding, zeros included."""
        return [
            ("groups of identical images", self.duplicate_groups),
            ("groups of identical images with different labels", self.label_conflict_groups),
            *((f"{s} images that repeat another of {s}", n) for s, n in self.duplicates_within.items()),
            *((f"{a} images also in {b}", n) for (a, b), n in self.duplicates_across.items()),
            *((f"pairs of near duplicates in {s}", n) for s, n in self.near_duplicates_within.items()),
            *((f"{a} images with a near duplicate in {b}", n) for (a, b), n in self.near_duplicates_across.items()),
            *((f"constant images in {s}", n) for s, n in self.constant_images.items()),
            *((f"subjects in both {a} and {b}", n) for (a, b), n in self.shared_subjects.items()),
        ]


def check_quality(data: FaceData) -> QualityReport:
    """Check all splits of a data set.

    The search for near duplicates takes time with the square of the images: 32,000 take seconds, not minutes.
    """
    splits = {name: split for name in ("train", "val", "test") if (split := getattr(data, name)) is not None}
    names = tuple(splits)
    split_ids = np.repeat(np.arange(len(names)), [len(split) for split in splits.values()])
    images = np.concatenate([split.images for split in splits.values()])
    labels = np.concatenate([split.labels for split in splits.values()])
    group = _duplicate_group_ids(images)
    flat = images.reshape(len(images), -1)
    constant = flat.min(axis=1) == flat.max(axis=1)
    near = _near_duplicate_pairs(images, group, ~constant)
    pairs = [(names[b], names[a]) for a in range(len(names)) for b in range(a + 1, len(names))]
    groups = {name: group[split_ids == i] for i, name in enumerate(names)}
    return QualityReport(
        name=data.name,
        digest=data.digest,
        class_counts={name: _class_counts(split, data.classes) for name, split in splits.items()},
        duplicate_groups=int(np.sum(np.bincount(group) > 1)),
        duplicates_within={name: len(g) - len(np.unique(g)) for name, g in groups.items()},
        duplicates_across={(a, b): int(np.isin(groups[a], groups[b]).sum()) for a, b in pairs},
        label_conflict_groups=_count_label_conflicts(group, labels),
        near_duplicates_across={
            (a, b): _count_near_duplicates_across(near, group, split_ids, names.index(a), names.index(b))
            for a, b in pairs
        },
        near_duplicates_within={
            name: int(np.sum(np.all(split_ids[near] == i, axis=1))) for i, name in enumerate(names)
        },
        constant_images={name: int(constant[split_ids == i].sum()) for i, name in enumerate(names)},
        shared_subjects=_shared_subjects(splits, pairs),
        notes=data.notes,
    )


def pixel_digests(images: Images) -> npt.NDArray[np.str_]:
    """Digests [N] of images [N, C, H, W]; equal where all pixels are."""
    return np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images], dtype=np.str_)


def difference_hash(images: Images) -> npt.NDArray[np.uint64]:
    """Hashes [N] of 64 bits of images [N, C, H, W]: whether each of 8x8 cells is darker than its right neighbour."""
    grey = images.mean(axis=1, dtype=np.float32)
    small = _cell_means(_cell_means(grey, 8, axis=1), 9, axis=2)  # [N, 8, 9]: 9 columns have 8 differences
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(images), 64)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def _cell_means(values: npt.NDArray[np.float32], cells: int, *, axis: int) -> npt.NDArray[np.float32]:
    edges = np.linspace(0, values.shape[axis], cells + 1).round().astype(int)
    sums = np.add.reduceat(values, edges[:-1], axis=axis)
    shape = [1] * values.ndim
    shape[axis] = cells
    return np.asarray(sums / np.diff(edges).reshape(shape), np.float32)


def _class_counts(split: Split, classes: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(classes, np.bincount(split.labels, minlength=len(classes)).tolist(), strict=True))


def _duplicate_group_ids(images: Images) -> IntArray:
    """Number [N] of each image's group of equal images."""
    return np.unique(pixel_digests(images), return_inverse=True)[1].astype(np.int64)


def _count_label_conflicts(group: IntArray, labels: IntArray) -> int:
    # Each (group, label) once: a group that is left twice has two labels.
    groups_by_label = np.unique(np.stack([group, labels]), axis=1)[0]
    return int(np.sum(np.bincount(groups_by_label) > 1))


def _near_duplicate_pairs(images: Images, group: IntArray, usable: npt.NDArray[np.bool_]) -> IntArray:
    """Pairs [P, 2] (i < j) of near duplicates that are no exact duplicates, among the usable images.

    Constant images are not usable: their correlation is undefined.
    """
    rows = np.flatnonzero(usable)
    hashes = difference_hash(images)[rows]
    blocks = []
    for start in range(0, len(rows), _BLOCK):
        distances = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ hashes[None, start:])
        i, j = np.nonzero(distances <= NEAR_DUPLICATE_MAX_BITS)
        upper = i < j
        blocks.append(np.stack([rows[start + i[upper]], rows[start + j[upper]]], axis=1))
    pairs = np.concatenate(blocks) if blocks else np.empty((0, 2), np.int64)
    pairs = pairs[group[pairs[:, 0]] != group[pairs[:, 1]]]
    correlated = [
        pixel_correlations(images, pairs[k : k + _BLOCK]) > NEAR_DUPLICATE_MIN_CORRELATION
        for k in range(0, len(pairs), _BLOCK)
    ]
    return np.asarray(pairs[np.concatenate(correlated)] if correlated else pairs, np.int64)


def pixel_correlations(images: Images, pairs: IntArray) -> npt.NDArray[np.float32]:
    """Pearson correlation [P] of the pixels of each pair; the images must not be constant."""
    first, second = (images[pairs[:, k]].reshape(len(pairs), -1).astype(np.float32) for k in (0, 1))
    first, second = (x - x.mean(axis=1, keepdims=True) for x in (first, second))
    norm = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray(np.einsum("pk,pk->p", first, second) / norm, np.float32)


def _count_near_duplicates_across(near: IntArray, group: IntArray, split_ids: IntArray, a: int, b: int) -> int:
    """Number of images of split `a` that have a near but no exact duplicate in split `b`."""
    ordered = np.concatenate([near, near[:, ::-1]])
    rows = np.unique(ordered[(split_ids[ordered[:, 0]] == a) & (split_ids[ordered[:, 1]] == b), 0])
    return int(np.sum(~np.isin(group[rows], group[split_ids == b])))


def _shared_subjects(splits: dict[str, Split], pairs: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    people = {name: split.subjects for name, split in splits.items() if split.subjects is not None}
    return {(a, b): len(np.intersect1d(people[a], people[b])) for a, b in pairs if a in people and b in people}
