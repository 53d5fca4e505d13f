"""The data set of a CSV table."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData
from nas.data.datasets.csv import DATASET
from nas.errors import DataError
from tests.data.sources import pixels, write_csv, write_image


def load(path: Path, **options: str) -> FaceData:
    return DATASET.load(path, cache=path.parent / "cache", options=options)


def table(folder: Path, header: str, *rows: str) -> Path:
    for i, face in enumerate(pixels(6, side=40)):
        write_image(folder / f"{i}.png", face)
    path = folder / "t.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_selection_split_takes_whole_subjects(tmp_path: Path) -> None:
    data = load(write_csv(tmp_path), val_share="0.3")
    assert data.train.subjects is not None
    assert data.val.subjects is not None
    assert not set(data.train.subjects) & set(data.val.subjects)
    # Ten subjects with four faces each: three of them are three tenths.
    assert (len(data.train), len(data.val)) == (28, 12)
    assert any("by subject" in note for note in data.notes)


def test_every_column_is_read(tmp_path: Path) -> None:
    data = load(write_csv(tmp_path))
    assert data.classes == ("angry", "sad")
    for split in (data.train, data.val):
        assert split.affect is not None
        assert split.groups is not None
        # `write_csv` gives the i-th face the valence i / 40, and label and group by parity.
        rows = (split.affect[:, 0] * 40).round().astype(int)
        assert np.array_equal(split.images[:, 0], pixels(40, side=36)[rows])
        assert np.array_equal(split.labels, rows % 2)
        assert split.groups.tolist() == ["ab"[r % 2] for r in rows]
        assert np.all(split.affect[:, 1] == -0.5)
    assert "columns that are read but not used yet: group, valence, arousal" in data.notes


def test_notes_name_shared_subjects_and_classes_without_training_faces(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "path,label,split,subject",
        "0.png,happy,training,a",
        "1.png,bored,dev,a",
        "2.png,bored,test,b",
        "3.png,sad,train,c",
    )
    data = load(path)
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (2, 1, 1)
    assert "the source's own splits share subjects: 1 in both train and val" in data.notes
    assert "classes without training faces: bored" in data.notes


def test_changed_image_is_read_again(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label,split", "0.png,happy,train", "1.png,sad,val", "2.png,sad,train")
    first = load(path)
    write_image(tmp_path / "0.png", pixels(1, side=40, seed=9)[0])
    assert load(path).digest != first.digest


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        ("path,label", "9.png,happy", r"image .*9\.png does not exist; paths are relative"),
        ("path,label", "1.png,", "the label must name a class, but is empty"),
        ("path,label", "1.png,NaN", "the label must name a class, but is 'NaN'"),
        ("path,label,split", "1.png,happy,holdout", "split must be train, val or test, but got 'holdout'"),
        ("path,label,valence,arousal", "1.png,happy,high,0", "valence and arousal must be numbers"),
        ("path,label,valence,arousal", "1.png,happy,0.5,", "valence and arousal must be numbers"),
        ("path,label,valence,arousal", "1.png,happy,-2,0.5", "valence and arousal must be in -1..1"),
        ("path,label,valence,arousal", "1.png,happy,nan,0", "valence and arousal must be in -1..1"),
    ],
)
def test_broken_row_is_named_with_its_reason(tmp_path: Path, header: str, row: str, reason: str) -> None:
    good = ",".join(["0.png", "happy", "", ""][: header.count(",") + 1])
    with pytest.raises(DataError, match=rf"t\.csv, row 3: {reason}"):
        load(table(tmp_path, header, good, row))


def test_subject_that_is_missing_in_one_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 3: either all faces must name their subject or none"):
        load(table(tmp_path, "path,label,subject", "0.png,happy,a", "1.png,happy,"))


def test_missing_column_and_broken_image(tmp_path: Path) -> None:
    fault = "row 1: the header must name the columns path, label, but label is missing from path, emotion"
    with pytest.raises(DataError, match=fault):
        load(table(tmp_path, "path,emotion", "0.png,happy"))
    path = table(tmp_path, "path,label", "0.png,sad", "1.png,happy")
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"t\.csv, row 3: 1\.png is not a readable image"):
        load(path)
    with pytest.raises(DataError, match="must hold faces, but has none"):
        load(table(tmp_path, "path,label"))


def test_table_of_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold training faces of at least two classes, but has only 'happy'"):
        load(table(tmp_path, "path,label", "0.png,happy", "1.png,Joy"))
    with pytest.raises(DataError, match="must hold training faces of at least two classes, but has only 'happy'"):
        load(table(tmp_path, "path,label,split", "0.png,happy,train", "1.png,sad,val"))
    rows = [f"{i}.png,{'happy' if i < 2 else 'sad'},{'a' if i < 2 else f'b{i}'}" for i in range(4)]
    with pytest.raises(DataError, match="at least two classes, but has only 'sad'; name more subjects of each"):
        load(table(tmp_path, "path,label,subject", *rows), val_share="0.9")


def test_two_tables_of_the_same_images_are_told_apart(tmp_path: Path) -> None:
    first = table(tmp_path, "path,label", *(f"{i}.png,{'ab'[i % 2]}" for i in range(6)))
    assert load(first).classes == ("a", "b")
    second = tmp_path / "u.csv"
    second.write_text("\n".join(["path,label", *(f"{i}.png,{'cd'[i % 2]}" for i in range(6))]))
    assert load(second).classes == ("c", "d")


def test_unicode_forms_of_paths_labels_and_subjects(tmp_path: Path) -> None:
    """macOS writes file names in decomposed form; the table is typed in composed form."""
    rows = []
    for i, face in enumerate(pixels(8, side=40)):
        form = ("NFC", "NFD")[i % 2]
        write_image(tmp_path / unicodedata.normalize("NFD", f"é{i}.png"), face)
        names = [unicodedata.normalize("NFC", f"é{i}.png"), f"Colère{i // 4}", f"André{i // 2 % 2}"]
        rows.append(",".join([names[0], *(unicodedata.normalize(form, name) for name in names[1:])]))
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["path,label,subject", *rows]), encoding="utf-8-sig")
    data = load(path, val_share="0.5")
    assert data.classes == ("colère0", "colère1")
    assert data.train.subjects is not None
    assert data.val.subjects is not None
    assert (len(set(data.train.subjects)), len(set(data.val.subjects))) == (1, 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"1.png,{'x' * 101}", "a class name must be text of at most 100 characters, but is 'xxx"),
        ("1.png,a\x00b", r"a class name must be text of at most 100 characters, but is 'a\\x00b'"),
        ("\x00.png,happy", r"image .*\\x00\.png does not exist"),
        (f"{'x' * 5000}.png,happy", r"image .*xxx\.png (does not exist|cannot be read)"),
        (".,happy", "image .* must be a regular file, but is a folder"),
        (f"1.png,{'7' * 5000}", "a class name must be text of at most 100 characters"),
    ],
)
def test_hostile_cells_are_refused_in_one_line(tmp_path: Path, row: str, reason: str) -> None:
    with pytest.raises(DataError, match=rf"row 3: {reason}") as caught:
        load(table(tmp_path, "path,label", "0.png,happy", row))
    assert str(caught.value).isprintable()


def test_missing_path_and_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv must be a regular file, but is a pipe; give an existing file"):
        load(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"needs the path of a CSV file .* got none"):
        DATASET.load(None, cache=tmp_path, options={})
