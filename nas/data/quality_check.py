"""What is wrong with a data set before anybody trains on it: copies within and across splits, constant images, balance.

Exact copies have equal pixels. Near copies have difference hashes (N. Krawetz, "Kind of like that", 2013) at most
`NEAR_DUPLICATE_MAX_BITS` of 64 bits apart and pixels that correlate above `NEAR_DUPLICATE_MIN_CORRELATION`; the second test takes out aligned faces
that are merely alike.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Images, Split

NEAR_DUPLICATE_MAX_BITS = 4
NEAR_DUPLICATE_MIN_CORRELATION = 0.98
_BLOCK = 1024

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """What `check` found. Splits are called train, val and test.

    Attributes:
        name: the data set's word.
        digest: its digest.
        counts: faces by split and class name.
        copy_groups: groups of two or more faces with equal pixels, over all splits.
        copies_within: faces by split that repeat an earlier one of the same split.
        copies_across: faces of the first split that also occur in the second, by (first, second); the leak is what
            val and test share with train.
        conflicting_groups: groups of equal faces that carry different labels.
        near_across: as `copies_across`, faces that have a near but no exact copy there.
        near_within: pairs of near copies by split.
        constant: faces by split whose pixels all have one value.
        shared_subjects: persons who occur in both splits, by (first, second); empty where persons are not known.
        notes: the data set's own notes.
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
        """Class balance as rows of words: a header, one row per class with count and share, and the totals."""
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
        """What was looked for and how often it was found, also where that is never."""
        return [
            ("groups of identical images", self.duplicate_groups),
            ("groups of identical images with different labels", self.label_conflict_groups),
            *((f"{s} images that repeat another of {s}", n) for s, n in self.duplicates_within.items()),
            *((f"{a} images also in {b}", n) for (a, b), n in self.duplicates_across.items()),
            *((f"pairs of near copies in {s}", n) for s, n in self.near_duplicates_within.items()),
            *((f"{a} images with a near copy in {b}", n) for (a, b), n in self.near_duplicates_across.items()),
            *((f"constant images in {s}", n) for s, n in self.constant_images.items()),
            *((f"subjects in both {a} and {b}", n) for (a, b), n in self.shared_subjects.items()),
        ]


def check_quality(data: FaceData) -> QualityReport:
    """Look through all splits. Near copies cost time with the square of the faces: 32,000 take seconds, not minutes."""
    splits = {name: split for name in ("train", "val", "test") if (split := getattr(data, name)) is not None}
    names = tuple(splits)
    of_split = np.repeat(np.arange(len(names)), [len(split) for split in splits.values()])
    images = np.concatenate([split.images for split in splits.values()])
    labels = np.concatenate([split.labels for split in splits.values()])
    group = _duplicate_group_ids(images)
    flat = images.reshape(len(images), -1)
    constant = flat.min(axis=1) == flat.max(axis=1)
    near = _near_duplicate_pairs(images, group, ~constant)
    pairs = [(names[b], names[a]) for a in range(len(names)) for b in range(a + 1, len(names))]
    members = {name: group[of_split == i] for i, name in enumerate(names)}
    return QualityReport(
        name=data.name,
        digest=data.digest,
        class_counts={name: _class_counts(split, data.classes) for name, split in splits.items()},
        duplicate_groups=int(np.sum(np.bincount(group) > 1)),
        duplicates_within={name: len(g) - len(np.unique(g)) for name, g in members.items()},
        duplicates_across={(a, b): int(np.isin(members[a], members[b]).sum()) for a, b in pairs},
        label_conflict_groups=_count_label_conflicts(group, labels),
        near_duplicates_across={
            (a, b): _count_near_duplicates_across(near, group, of_split, names.index(a), names.index(b))
            for a, b in pairs
        },
        near_duplicates_within={name: int(np.sum(np.all(of_split[near] == i, axis=1))) for i, name in enumerate(names)},
        constant_images={name: int(constant[of_split == i].sum()) for i, name in enumerate(names)},
        shared_subjects=_shared_subjects(splits, pairs),
        notes=data.notes,
    )


def difference_hash(images: Images) -> npt.NDArray[np.uint64]:
    """[N] 64-bit hashes of images [N, C, H, W]: whether each of 8x8 cells is darker than its right neighbour."""
    grey = images.mean(axis=1, dtype=np.float32)
    small = _cell_means(_cell_means(grey, 8, axis=1), 9, axis=2)  # [N, 8, 9]
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
    """[N] number of the group of equal images that each belongs to."""
    hashes = np.array([hashlib.sha256(image.tobytes()).digest().hex() for image in images])
    return np.unique(hashes, return_inverse=True)[1].astype(np.int64)


def _count_label_conflicts(group: IntArray, labels: IntArray) -> int:
    different = np.unique(np.stack([group, labels]), axis=1)[0]
    return int(np.sum(np.bincount(different) > 1))


def _near_duplicate_pairs(images: Images, group: IntArray, usable: npt.NDArray[np.bool_]) -> IntArray:
    """[P, 2] pairs (i < j) of near copies that are no exact copies, among the usable images."""
    at = np.flatnonzero(usable)
    hashes = difference_hash(images)[at]
    found = []
    for start in range(0, len(at), _BLOCK):
        apart = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ hashes[None, start:])
        i, j = np.nonzero(apart <= NEAR_DUPLICATE_MAX_BITS)
        later = i < j
        found.append(np.stack([at[start + i[later]], at[start + j[later]]], axis=1))
    pairs = np.concatenate(found) if found else np.empty((0, 2), np.int64)
    pairs = pairs[group[pairs[:, 0]] != group[pairs[:, 1]]]
    alike = [
        _correlations(images, pairs[k : k + _BLOCK]) > NEAR_DUPLICATE_MIN_CORRELATION
        for k in range(0, len(pairs), _BLOCK)
    ]
    return np.asarray(pairs[np.concatenate(alike)] if alike else pairs, np.int64)


def _correlations(images: Images, pairs: IntArray) -> npt.NDArray[np.float32]:
    """[P] correlation of the pixels of each pair; no image is constant."""
    one, two = (images[pairs[:, k]].reshape(len(pairs), -1).astype(np.float32) for k in (0, 1))
    one, two = (x - x.mean(axis=1, keepdims=True) for x in (one, two))
    norm = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return np.asarray(np.einsum("pk,pk->p", one, two) / norm, np.float32)


def _count_near_duplicates_across(near: IntArray, group: IntArray, of_split: IntArray, a: int, b: int) -> int:
    """How many faces of split `a` have a near but no exact copy in split `b`."""
    both = np.concatenate([near, near[:, ::-1]])
    faces = np.unique(both[(of_split[both[:, 0]] == a) & (of_split[both[:, 1]] == b), 0])
    return int(np.sum(~np.isin(group[faces], group[of_split == b])))


def _shared_subjects(splits: dict[str, Split], pairs: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    people = {name: split.subjects for name, split in splits.items() if split.subjects is not None}
    return {(a, b): len(np.intersect1d(people[a], people[b])) for a, b in pairs if a in people and b in people}
