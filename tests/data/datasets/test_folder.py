"""The data set of class folders."""

import builtins
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData
from nas.data.datasets.folder import DATASET
from nas.errors import DataError, MissingPackageError
from tests.data.sources import pixels, write_folder, write_image


def load(root: Path, **options: str) -> FaceData:
    return DATASET.load(root, cache=root.parent / "cache", options=options)


def test_selection_split_takes_a_share_of_each_class(tmp_path: Path) -> None:
    data = load(write_folder(tmp_path / "faces", each=20))
    assert data.classes == ("happy", "neutral", "bored")
    assert data.input_shape == (1, 40, 40)
    # A tenth of twenty, in every class.
    assert np.bincount(data.val.labels).tolist() == [2, 2, 2]
    assert np.bincount(data.train.labels).tolist() == [18, 18, 18]
    assert data.test is None
    assert data.test_name == "no test split in faces"
    assert any("happiness is read as happy" in note for note in data.notes)
    assert any("6 faces were split off train" in note for note in data.notes)


def test_selection_split_does_not_depend_on_file_names(tmp_path: Path) -> None:
    first = load(write_folder(tmp_path / "faces"))
    for file in (tmp_path / "faces").glob("*/*.png"):
        file.rename(file.with_name(f"{99 - int(file.stem)}.png"))
    again = load(tmp_path / "faces")
    assert {i.tobytes() for i in first.val.images} == {i.tobytes() for i in again.val.images}


def test_exact_duplicates_stay_in_one_split(tmp_path: Path) -> None:
    for name in ("happy", "sad"):
        for i, face in enumerate(np.repeat(pixels(8, side=40, seed=len(name)), 3, axis=0)):
            write_image(tmp_path / "faces" / name / f"{i}.png", face)
    data = load(tmp_path / "faces", val_share="0.4")
    assert not {i.tobytes() for i in data.val.images} & {i.tobytes() for i in data.train.images}


def test_named_splits_are_kept(tmp_path: Path) -> None:
    for split, each in (("Train", 4), ("valid", 3), ("test", 2)):
        write_folder(tmp_path / "faces" / split, each=each)
    data = load(tmp_path / "faces")
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (12, 9, 6)


def test_size_and_channels(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "faces")
    assert load(root, size="48", channels="3").input_shape == (3, 48, 48)
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 200
    for i in range(6):
        write_image(tmp_path / "rgb" / ("happy", "sad")[i % 2] / f"{i}.png", red + np.uint8(i))
    data = load(tmp_path / "rgb")
    assert data.input_shape == (3, 40, 40)
    assert data.train.images[:, 0].min() >= 200


def test_grey_levels_are_unchanged_by_resizing(tmp_path: Path) -> None:
    for i in range(4):
        write_image(tmp_path / "faces" / ("happy", "sad")[i % 2] / f"{i}.png", np.full((40, 40), 60 + i, np.uint8))
    data = load(tmp_path / "faces", size="64")
    assert sorted({int(v) for s in (data.train, data.val) for v in np.unique(s.images)}) == [60, 61, 62, 63]


def test_image_of_another_size_and_broken_image_are_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "faces")
    odd = write_image(root / "neutral" / "zz.png", pixels(1, side=50)[0])
    fault = r"zz\.png: all images must have one size, but this one is 50x50 and the first is 40x40; .* size=48"
    with pytest.raises(DataError, match=fault):
        load(root)
    odd.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"zz\.png is not a readable image: .*; replace or remove the file"):
        load(root)


def test_folders_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold images in class folders, but has none"):
        load(tmp_path)
    write_folder(tmp_path / "faces" / "train")
    (tmp_path / "faces" / "happy").mkdir()
    with pytest.raises(DataError, match="split folders or class folders, but has split folders and happy"):
        load(tmp_path / "faces")
    for name, face in zip(("happy", "sad"), pixels(2, side=40), strict=True):
        write_image(tmp_path / "one" / name / "0.png", face)
    with pytest.raises(DataError, match="must hold faces of split val, but has none"):
        load(tmp_path / "one")
    with pytest.raises(DataError, match="option size='many' of data set folder does not fit"):
        load(tmp_path / "one", size="many")


def test_missing_pillow_names_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "faces")
    genuine = builtins.__import__

    def without_pillow(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("PIL"):
            raise ImportError(name)
        return genuine(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(MissingPackageError, match=r"pip install 'fer-nas\[images\]'"):
        load(root)


def test_root_decides_the_classes_also_with_the_cache(tmp_path: Path) -> None:
    write_folder(tmp_path / "data" / "a", classes=("x", "y"))
    write_folder(tmp_path / "data" / "b", classes=("v", "w"))
    cache = tmp_path / "cache"
    high = DATASET.load(tmp_path / "data", cache=cache, options={})
    low = DATASET.load(tmp_path / "data" / "a", cache=cache, options={})
    assert (high.classes, low.classes) == (("a", "b"), ("x", "y"))
    for i in range(12):  # the same files below a folder of another name
        write_image(tmp_path / "data" / "a" / "x" / f"{i:03d}.png", pixels(1, side=40, seed=i)[0])
    (tmp_path / "data" / "a" / "x").rename(tmp_path / "data" / "a" / "z")
    assert DATASET.load(tmp_path / "data" / "a", cache=cache, options={}).classes == ("y", "z")


def test_hidden_and_foreign_entries_are_left_out_at_every_level_and_counted(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    for split in ("train", "val"):
        write_folder(root / split, each=4)
    expected = load(root)
    face = pixels(1, side=40, seed=5)[0]
    for folder in (root, root / "train", root / "train" / "neutral"):
        for name in (".ipynb_checkpoints", "__MACOSX", ".hidden", "@eaDir"):
            write_image(folder / name / "x-checkpoint.png", face)
            write_image(folder / name / "neutral" / "x.png", face)
        write_image(folder / "._000.png", face)
        (folder / "Thumbs.db").write_bytes(b"")
        (folder / ".DS_Store").write_bytes(b"")
    (root / "train" / "neutral" / "x.heic").write_bytes(b"")
    (root / "train" / "neutral" / "loop").symlink_to(root, target_is_directory=True)
    os.mkfifo(root / "train" / "neutral" / "pipe.png")
    write_image(root / "train" / "loose.png", face)
    data = load(root)
    assert data.digest == expected.digest
    hidden, others = (next(note for note in data.notes if kind in note) for kind in ("hidden and system", "no images"))
    assert all(f"{name} (3)" in hidden for name in (".ipynb_checkpoints", "__MACOSX", "Thumbs.db", ".DS_Store", "._*"))
    assert others == "entries that are no images were left out: .heic (1), links to folders (1), pipes (1)"
    assert "images outside class folders were left out: 1" in data.notes


def test_unicode_forms_of_a_class_are_one(tmp_path: Path) -> None:
    for form, name in (("NFC", "colère"), ("NFD", "colère"), ("NFC", "joy"), ("NFD", "Émoi")):
        seed = len(form + name) + (form == "NFD")
        for i, face in enumerate(pixels(3, side=40, seed=seed)):
            write_image(tmp_path / "faces" / unicodedata.normalize(form, name) / f"{form}{i}.png", face)
    assert load(tmp_path / "faces").classes == ("happy", "colère", "émoi")


def tree(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        write_image(root / name, pixels(1, side=40, seed=i)[0])
    return root


RAF = ("Image/aligned/train_00001_aligned.jpg", "Image/aligned/test_0001_aligned.jpg", "Image/original/train_00001.jpg")
AFFECT = ("train_set/images/1.jpg", "train_set/images/2.jpg", "val_set/images/3.jpg")


@pytest.mark.parametrize(
    ("names", "given", "reason"),
    [
        (RAF, "", "looks like RAF-DB, .*list_patition_label.txt: .* use the data set rafdb"),
        (RAF, "Image", "looks like RAF-DB"),
        (RAF, "Image/aligned", "looks like RAF-DB"),
        (AFFECT, "", "looks like AffectNet: use the data set affectnet with the path .*faces$"),
        (AFFECT, "train_set", "looks like AffectNet"),
        (AFFECT, "train_set/images", "looks like AffectNet"),
        (("x/happy/1.png", "x/sad/1.png"), "", r"faces looks one level too high; give .*faces/x$"),
        (("x/train/happy/1.png", "x/train/sad/1.png"), "", "looks one level too high; give .*faces/x$"),
        (("x/a/1.png", "x/b/1.png"), "", "looks one level too high; give .*faces/x$"),
        (("x/happy/1.png", "x/sad/1.png", "y/happy/2.png", "y/sad/2.png"), "", "one level too high; give .*faces/x$"),
        (("train/x/happy/1.png", "train/x/sad/1.png"), "", "move the folders of .*train/x into .*train$"),
        (("happy/train/1.png", "sad/train/1.png"), "", r"happy holds split folders: the layout is .*/train/<class>$"),
        (("happy/1.png", "sad/1.png"), "happy", "is itself named as a class; give the folder above it, .*faces$"),
        (("happy/s1/1.png", "happy/s2/1.png"), "happy", "is itself named as a class; give the folder above it"),
        (("joy/1.png", "Happiness/2.png"), "", "at least two class folders, but has only 'happy'"),
        (
            ("1.png", "2.png"),
            "",
            r"has 2 images outside of any; it looks like one class folder \(give the folder .*\) or .* data set csv",
        ),
        (("train/1.png",), "", "has 1 images outside of any"),
    ],
)
def test_sentence_says_what_the_folder_looks_like(
    tmp_path: Path, names: tuple[str, ...], given: str, reason: str
) -> None:
    root = tree(tmp_path / "faces", *names)
    if names is AFFECT:
        for part in ("train_set", "val_set"):
            (root / part / "annotations").mkdir()
            (root / part / "annotations" / "1_exp.npy").write_bytes(b"")
    with pytest.raises(DataError, match=reason):
        load(root / given)


def test_numbered_classes_are_said_to_have_no_known_order(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", *(f"{c}/{i}.png" for c in ("0", "1", "2") for i in range(3)))
    assert any("the classes are numbers, whose meaning is not known" in note for note in load(root).notes)
    (root / "0").rename(root / "angry")
    assert not any("whose meaning is not known" in note for note in load(root).notes)


def test_classes_with_folders_of_persons_are_read(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", *(f"{c}/person{s}/{i}.png" for c in ("1", "2") for s in (1, 2) for i in range(3)))
    assert load(root).classes == ("1", "2")


def test_folders_may_be_nested_deeper_than_the_stack(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", *(f"{c}/{i}.png" for c in ("a", "b") for i in range(3)))
    nested = [root / "a"]
    for _ in range(sys.getrecursionlimit() + 100):
        nested.append(nested[-1] / "x")
        nested[-1].mkdir()
    try:
        assert load(root).classes == ("a", "b")
    finally:  # pytest's own removal is recursive
        for folder in reversed(nested[1:]):
            folder.rmdir()


def test_folders_of_persons_are_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", *(f"{i}/x.png" for i in range(101)))
    with pytest.raises(
        DataError, match="must have at most 100 classes, but has 101, as '0', '1', '10'; these look like"
    ):
        load(root)


def test_one_class_with_training_faces_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", "train/happy/1.png", "train/happy/2.png", "val/sad/1.png", "val/happy/3.png")
    with pytest.raises(DataError, match="must hold training faces of at least two classes, but has only 'happy'"):
        load(root)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", *(f"{c}/{i}.png" for c in ("a", "b") for i in range(3)))
    (root / "a" / "0.png").rename(root / "a" / os.fsdecode(b"caf\xe9.png"))
    assert sum(map(len, (load(root).train, load(root).val))) == 6
    broken = root / "a" / os.fsdecode(b"x\xff.png")
    broken.write_bytes(b"")
    with pytest.raises(DataError, match=r"x\\xff\.png is not a readable image"):
        load(root)
    broken.unlink()
    (root / "b").rename(root / os.fsdecode(b"\xe9motion"))
    with pytest.raises(DataError, match=r"\\xe9motion: the name of a class folder must be UTF-8 text"):
        load(root)


def test_class_names_of_control_characters_are_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "faces", "a/0.png", "b/0.png")
    (root / "b").rename(root / "b\n\x1b[2J")
    with pytest.raises(
        DataError, match=r"a class name must be text of at most 100 characters, but is 'b\\n\\x1b"
    ) as caught:
        load(root)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["csv", "folder"])
def test_paths_beyond_ascii_are_read_without_utf8_mode(tmp_path: Path, kind: str) -> None:
    root = tree(tmp_path / "visages é", *(f"{c}/é{i}.png" for c in ("colère", "joie") for i in range(3)))
    rows = [f"{c}/é{i}.png,{c}" for c in ("colère", "joie") for i in range(3)]
    (root / "é.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    code = (
        "import sys, pathlib; from nas.data.loading import load_data\n"
        "data = load_data(sys.argv[1], pathlib.Path(sys.argv[2]), cache_dir=pathlib.Path(sys.argv[3]))\n"
        "print(sys.getfilesystemencoding(), ascii(data.classes), len(data.train) + len(data.val))"
    )
    path = root / "é.csv" if kind == "csv" else root
    environment = os.environ | {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": os.pathsep.join(sys.path)
    }  # fmt: skip
    command = [sys.executable, "-c", code, kind, path, tmp_path / "cache"]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert out == "ascii ('col\\xe8re', 'joie') 6\n"
