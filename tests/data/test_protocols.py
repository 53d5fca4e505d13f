"""Protocols: properties of the divisions, files of folds, and what cannot be divided."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.config.protocol import parse_protocol
from nas.data.base import FaceData, Split
from nas.data.loading import load_data
from nas.data.protocols import assign_parts, divide, pool
from nas.errors import DataError
from tests.data.miniatures import write_jaffe


def distinct_images(n: int, start: int = 0) -> np.ndarray:
    """[N, 1, 2, 2] images, no two of which are equal."""
    numbers = np.arange(start, start + n, dtype="<u4")
    return numbers.view(np.uint8).reshape(n, 1, 2, 2)


def faces(n: int, *, n_subjects: int | None, seed: int = 0, n_classes: int = 3) -> FaceData:
    """Three splits of random labels; the subjects' names are their numbers with an s."""
    rng = np.random.default_rng(seed)
    everything = Split(
        images=distinct_images(n),
        labels=rng.permutation(np.arange(n) % n_classes),
        subjects=None if n_subjects is None else rng.permutation(np.arange(n) % n_subjects),
    )
    part = rng.permutation(np.arange(n) % 3)
    return FaceData(
        name="x", classes=tuple("abcdefgh"[:n_classes]), train=everything.select(part == 0),
        val=everything.select(part == 1), test=everything.select(part == 2),
        subject_names=tuple(f"s{i}" for i in range(n_subjects or 0)),
    )  # fmt: skip


def splits(data: FaceData) -> list[Split]:
    return [split for split in (data.train, data.val, data.test) if split is not None]


def images_of(split: Split | None) -> set[bytes]:
    return set() if split is None else {image.tobytes() for image in split.images}


QUICK = settings(max_examples=15, deadline=None, derandomize=True)
PROTOCOLS = st.sampled_from(["holdout", "kfold:2", "kfold:5", "loso"])


@QUICK
@given(text=PROTOCOLS, n=st.integers(30, 90), n_subjects=st.integers(6, 12), seed=st.integers(0, 99))
def test_splits_are_disjoint_by_subject_and_hold_every_image(text: str, n: int, n_subjects: int, seed: int) -> None:
    data, protocol = faces(n, n_subjects=n_subjects, seed=seed), parse_protocol(text)
    tested: list[bytes] = []
    n_folds = divide(data, protocol).n_folds
    for fold in range(n_folds):
        divided = divide(data, protocol, fold=fold)
        people = [set(split.subjects.tolist()) for split in splits(divided) if split.subjects is not None]
        assert sum(map(len, people)) == len(set.union(*people)) == n_subjects
        assert set.union(*map(images_of, splits(divided))) == set.union(*map(images_of, splits(data)))
        assert sum(map(len, splits(divided))) == n
        assert min(map(len, splits(divided))) > 0
        tested += sorted(images_of(divided.test))
    if n_folds > 1:  # each face is tested once
        assert len(tested) == len(set(tested)) == n
    assert n_folds == {"holdout": 1, "kfold:2": 2, "kfold:5": 5, "loso": n_subjects}[text]


@QUICK
@given(text=PROTOCOLS, seed=st.integers(0, 99), by_subject=st.booleans())
def test_order_of_the_images_and_their_splits_do_not_matter(text: str, seed: int, by_subject: bool) -> None:
    n_subjects = 8 if by_subject or text == "loso" else None
    data, protocol = faces(60, n_subjects=n_subjects, seed=seed), parse_protocol(text)
    rng = np.random.default_rng(seed)
    everything = pool(splits(data)).select(rng.permutation(60))
    cuts = np.sort(rng.choice(np.arange(1, 60), 2, replace=False))
    parts = [everything.select(rows) for rows in np.split(np.arange(60), cuts)]
    moved = replace(data, train=parts[0], val=parts[1], test=parts[2])
    for fold in (0, divide(data, protocol).n_folds - 1):
        expected, got = divide(data, protocol, fold=fold), divide(moved, protocol, fold=fold)
        assert [images_of(s) for s in splits(got)] == [images_of(s) for s in splits(expected)]


@QUICK
@given(n=st.integers(20, 100), n_classes=st.integers(2, 5), n_parts=st.integers(2, 7), seed=st.integers(0, 99))
def test_single_images_are_stratified_within_one(n: int, n_classes: int, n_parts: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, n_classes, n)
    parts = assign_parts(distinct_images(n), labels, np.arange(n), n_parts=n_parts)
    for label in range(n_classes):
        counts = np.bincount(parts[labels == label], minlength=n_parts)
        assert counts.max() - counts.min() <= 1
    assert np.bincount(parts, minlength=n_parts).min() > 0


@QUICK
@given(seed=st.integers(0, 200), n_parts=st.integers(2, 6))
def test_units_stay_whole_and_are_stratified_better_than_at_random(seed: int, n_parts: int) -> None:
    rng = np.random.default_rng(seed)
    n = 240
    units, labels = rng.integers(0, 40, n), rng.integers(0, 4, n)
    parts = assign_parts(distinct_images(n), labels, units, n_parts=n_parts)
    assert all(len(set(parts[units == unit].tolist())) == 1 for unit in np.unique(units))

    def spread(of: np.ndarray) -> float:
        counts = np.array([np.bincount(labels[of == part], minlength=4) for part in range(n_parts)])
        return float((counts / counts.sum(axis=0)).std(axis=0).sum())

    random = [spread(rng.integers(0, n_parts, 40)[units]) for _ in range(20)]
    assert spread(parts) < np.mean(random)


def test_exact_copies_stay_together_without_subjects() -> None:
    data = faces(60, n_subjects=None)
    doubled = replace(data, val=data.train)
    for fold in range(4):
        divided = divide(doubled, parse_protocol("kfold:4"), fold=fold)
        kept = [images_of(split) for split in splits(divided)]
        assert sum(map(len, kept)) == len(set.union(*kept))


def test_official_is_the_same_object_and_others_have_another_digest() -> None:
    data = faces(60, n_subjects=8)
    assert divide(data, parse_protocol("official")) is data
    digests = {divide(data, parse_protocol(text)).digest for text in ("holdout", "kfold:3", "kfold:4", "loso")}
    assert len(digests | {data.digest}) == 5
    assert len({divide(data, parse_protocol("kfold:3"), fold=fold).digest for fold in range(3)}) == 3


def test_holdout_takes_a_seventh_each_and_says_so() -> None:
    data = divide(faces(140, n_subjects=None), parse_protocol("holdout"))
    assert [len(split) for split in splits(data)] == [100, 20, 20]
    assert data.notes == (
        "protocol holdout, in place of the source's own splits: about a seventh of the faces each, by image",
    )
    assert (data.test_name, data.val_name) == ("holdout", "selection split of holdout")


def test_folds_are_named_and_the_search_is_said_to_see_one() -> None:
    data = faces(60, n_subjects=8)
    assert divide(data, parse_protocol("kfold:3"), fold=2).test_name == "fold 3 of 3"
    left_out = divide(data, parse_protocol("loso"), fold=5)
    assert left_out.test_name == "subject s5 left out"
    assert left_out.test is not None
    assert left_out.test.subjects is not None
    assert set(left_out.test.subjects.tolist()) == {5}
    assert left_out.notes[-1].startswith("a search sees one fold, whose training and selection faces are tested")


def test_file_of_folds_says_who_is_tested(tmp_path: Path) -> None:
    data, path = faces(60, n_subjects=6), tmp_path / "folds.csv"
    path.write_text("subject,fold\n" + "".join(f"s{i},{(10, 9)[i % 2]}\n" for i in range(6)))
    protocol = parse_protocol(f"folds:{path}")
    first, second = divide(data, protocol), divide(data, protocol, fold=1)
    # Labels of folds are numbers, so that 9 comes before 10.
    assert (first.n_folds, first.test_name, second.test_name) == (2, "fold 9 of 2", "fold 10 of 2")
    assert first.test is not None
    assert first.test.subjects is not None
    assert set(first.test.subjects.tolist()) == {1, 3, 5}
    for text, reason in (
        ("subject,fold\ns0,1\n", "must give a fold to each of the 6 subjects, but gives none to 's1'"),
        ("subject,fold\ns0,1\ns0,2\n", "must name each subject once, but names 's0' again"),
        ("subject,fold\n" + "".join(f"s{i},1\n" for i in range(6)), "must name at least two folds, but names 1"),
        ("person,fold\ns0,1\n", "the header must name the columns subject, fold"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=reason):
            divide(data, protocol)
    with pytest.raises(DataError, match=r"folds:.*absent\.csv does not exist; give the path of a CSV table"):
        divide(data, parse_protocol(f"folds:{tmp_path / 'absent.csv'}"))


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(DataError, match="protocol loso needs a data set that names the subject of each face"):
        divide(faces(60, n_subjects=None), parse_protocol("loso"))
    with pytest.raises(DataError, match="the protocol needs at least 10 subjects, but the data set has 8"):
        divide(faces(60, n_subjects=8), parse_protocol("kfold:10"))
    with pytest.raises(DataError, match="needs at least 3 subjects, but the data set has 2"):
        divide(faces(60, n_subjects=2), parse_protocol("holdout"))
    with pytest.raises(DataError, match="each fold must leave at least two subjects or images for training"):
        divide(faces(60, n_subjects=2), parse_protocol("kfold:2"))
    with pytest.raises(DataError, match="must leave training faces of at least two classes, but fold 1 of 3 has"):
        divide(faces(60, n_subjects=None, n_classes=1), parse_protocol("kfold:3"))


def test_pooled_splits_keep_what_some_of_them_know() -> None:
    data = faces(30, n_subjects=6)
    affect = np.ones((len(data.train), 2), np.float32)
    known = replace(data.train, affect=affect, groups=np.full(len(data.train), "a"), soft_labels=affect)
    everything = pool([known, replace(data.val, subjects=None)])
    assert everything.affect is not None
    assert everything.groups is not None
    assert np.isnan(everything.affect).all(axis=1).sum() == len(data.val)
    assert everything.groups.tolist() == ["a"] * len(data.train) + [""] * len(data.val)
    # A person or a vote that only some faces have would put the others into one unit.
    assert everything.subjects is None
    assert everything.soft_labels is None


def test_loaded_sets_are_divided_by_their_subjects(tmp_path: Path) -> None:
    root = write_jaffe(tmp_path / "set")
    options = {"size": "32"}
    names = []
    for fold in range(6):
        data = load_data("jaffe", root, options=options, cache_dir=tmp_path / "cache", protocol="loso", fold=fold)
        names.append(data.test_name)
        assert data.test is not None
        assert len(data.test) == 7
    assert names == [f"subject {name} left out" for name in ("KA", "KL", "KM", "KR", "MK", "NA")]
    with pytest.raises(ValueError, match="protocol must be official, holdout, kfold:K, loso or folds:FILE"):
        load_data("jaffe", root, options=options, cache_dir=tmp_path / "cache", protocol="kfold")
