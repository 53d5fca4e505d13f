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
from nas.errors import DataError

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
        leaked: training images with an exact or near copy in val or test, which the search leaves out.
        subjects: persons by split; empty if they are not known.
        group_counts: images by split and group, "" for those without one; empty if there are no groups.
        affect: by split the number of images with valence and arousal, and the lowest and highest value of both; empty
            if no image has them.
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
    leaked: int
    subjects: dict[str, int]
    group_counts: dict[str, dict[str, int]]
    affect: dict[str, tuple[int, float, float]]
    notes: tuple[str, ...]

    def class_balance_rows(self) -> list[tuple[str, ...]]:
        """Class balance as rows of text: a header, one row per class with count and share, and the totals."""
        return _share_rows("class", self.class_counts)

    def group_rows(self) -> list[tuple[str, ...]]:
        """Groups as rows of text, as `class_balance_rows`; empty if there are none."""
        return _share_rows("group", self.group_counts) if self.group_counts else []

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
            *((f"subjects in {s}", n) for s, n in self.subjects.items()),
            *((f"subjects in both {a} and {b}", n) for (a, b), n in self.shared_subjects.items()),
            *((f"{s} images with valence and arousal", n) for s, (n, _, _) in self.affect.items()),
        ]

    def consequences(self) -> list[str]:
        """What a search does about the findings, one sentence each; and the range of valence and arousal."""
        n_train = sum(self.class_counts["train"].values())
        lines = []
        if 0 < self.leaked < n_train:
            lines.append(
                f"a search trains without the {self.leaked} training images that are copies or near copies of images "
                "in val or test; --keep-duplicates keeps them"
            )
        elif self.leaked:
            lines.append(
                "every training image is a copy of one in val or test: a search keeps them all, and no figure holds"
            )
        if self.duplicates_across.get(("test", "val"), 0) + self.near_duplicates_across.get(("test", "val"), 0):
            lines.append("copies of val images stay in test, so that the test split is the published one")
        if shared := [f"{a} and {b}" for (a, b), n in self.shared_subjects.items() if n]:
            lines.append(
                f"subjects in both {', and in both '.join(shared)} stay there, so that the splits are the source's "
                "own: accuracies are those on known persons"
            )
        elif self.subjects:
            lines.append("no subject is in two splits")
        else:
            lines.append("subjects are not known: near copies are the only sign of one person in two splits")
        if self.label_conflict_groups:
            lines.append("identical images with different labels stay: no network can be right on all of them")
        for split, (count, low, high) in self.affect.items():
            total = sum(self.class_counts[split].values())
            lines.append(f"valence and arousal of {count} of {total} {split} images are from {low:.2f} to {high:.2f}")
        return lines


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
        leaked=_count_leaked(near, group, split_ids),
        subjects={name: len(np.unique(s.subjects)) for name, s in splits.items() if s.subjects is not None},
        group_counts=_group_counts(splits),
        affect=_affect_ranges(splits),
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


def _share_rows(title: str, counts: dict[str, dict[str, int]]) -> list[tuple[str, ...]]:
    """Counts by split and name as rows: a header, count and share of each name, and the totals."""
    totals = {split: sum(by_name.values()) for split, by_name in counts.items()}
    names = dict.fromkeys(name for by_name in counts.values() for name in by_name)
    rows = [
        (
            name or "none",
            *(f"{by.get(name, 0)} ({by.get(name, 0) / max(1, totals[s]):.1%})" for s, by in counts.items()),
        )
        for name in names
    ]
    return [(title, *counts), *rows, ("all", *(str(total) for total in totals.values()))]


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


def _count_leaked(near: IntArray, group: IntArray, split_ids: IntArray) -> int:
    """Number of images of the first split, train, that have an exact or near copy in a later one."""
    in_train = split_ids == 0
    ordered = np.concatenate([near, near[:, ::-1]])
    across = ordered[in_train[ordered[:, 0]] & ~in_train[ordered[:, 1]], 0]
    leaked = in_train & np.isin(group, group[~in_train])
    leaked[across] = True
    return int(leaked.sum())


def _group_counts(splits: dict[str, Split]) -> dict[str, dict[str, int]]:
    known = {name: split.groups for name, split in splits.items() if split.groups is not None}
    return {
        name: dict(zip(*(column.tolist() for column in np.unique(groups, return_counts=True)), strict=True))
        for name, groups in known.items()
    }


def _affect_ranges(splits: dict[str, Split]) -> dict[str, tuple[int, float, float]]:
    """Number of labelled images, lowest and highest valence or arousal, by split.

    Raises:
        DataError: a label is outside of -1..1.
    """
    ranges = {}
    for name, split in splits.items():
        if split.affect is None or not (labelled := ~np.isnan(split.affect).any(axis=1)).any():
            continue
        low, high = float(split.affect[labelled].min()), float(split.affect[labelled].max())
        if low < -1 or high > 1:
            raise DataError(
                f"valence and arousal must be in -1..1, but those of {name} reach from {low:g} to {high:g}; correct "
                "the reader of the data set"
            )
        ranges[name] = int(labelled.sum()), low, high
    return ranges


def _shared_subjects(splits: dict[str, Split], pairs: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    people = {name: split.subjects for name, split in splits.items() if split.subjects is not None}
    return {(a, b): len(np.intersect1d(people[a], people[b])) for a, b in pairs if a in people and b in people}
