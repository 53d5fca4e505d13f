"""Published sets: what all of their readers share, above all the sentence for a wrong folder."""

import itertools
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nas import registry
from nas.data.base import FaceData
from nas.data.published_set import PublishedDataset
from nas.errors import DataError
from tests.data.miniatures import OTHER_FORMS, PUBLISHED
from tests.data.sources import write_folder

Miniature = Callable[[str], Path]
READERS = {name: name for name in PUBLISHED} | {form: reader for form, (reader, _) in OTHER_FORMS.items()}
"""The data set that reads each miniature."""


def reader(name: str) -> PublishedDataset:
    member: PublishedDataset = registry.load("dataset", name)
    return member


def load(root: Path, name: str, cache: Path, **options: str) -> FaceData:
    return reader(name).load(root, cache=cache, options=options)


def test_every_published_set_has_a_miniature() -> None:
    members = [registry.load("dataset", name) for name in registry.names("dataset")]
    assert {member.name for member in members if isinstance(member, PublishedDataset)} == set(PUBLISHED)


@pytest.mark.parametrize("form", READERS)
def test_colour_and_any_size_are_read(miniature: Miniature, tmp_path: Path, form: str) -> None:
    data = load(miniature(form), READERS[form], tmp_path, size="36", channels="3")
    assert data.input_shape == (3, 36, 36)
    assert data.test is not None
    assert set(data.train.labels.tolist()) == set(range(len(data.classes)))
    assert min(len(data.val), len(data.test)) > 0


@pytest.mark.parametrize("form", READERS)
def test_only_its_own_reader_recognises_a_folder(miniature: Miniature, form: str) -> None:
    members = [registry.load("dataset", name) for name in registry.names("dataset")]
    assert [member.name for member in members if member.recognises(miniature(form))] == [READERS[form]]


@pytest.mark.parametrize("form", READERS)
def test_folder_too_high_is_told_which_to_give(miniature: Miniature, tmp_path: Path, form: str) -> None:
    shutil.copytree(miniature(form), tmp_path / "data" / "set")
    member = reader(READERS[form])
    where = rf"too high for {re.escape(member.title)}; give .*data/set$"
    with pytest.raises(DataError, match=rf"data is one level {where}"):
        load(tmp_path / "data", member.name, tmp_path)
    with pytest.raises(DataError, match=rf"is 2 levels {where}"):
        load(tmp_path, member.name, tmp_path)


@pytest.mark.parametrize("form", READERS)
def test_folder_too_low_is_told_which_to_give(miniature: Miniature, tmp_path: Path, form: str) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature(form), root)
    below = next((entry for entry in sorted(root.iterdir()) if entry.is_dir()), root / "sub")
    below.mkdir(exist_ok=True)  # a set of files only has no folders
    with pytest.raises(DataError, match=rf"is one level too low for .*; give {re.escape(str(root))}$"):
        load(below, READERS[form], tmp_path)


@pytest.mark.parametrize(("name", "other"), list(itertools.pairwise([*PUBLISHED, "affectnet"])))
def test_folder_of_another_set_is_named(miniature: Miniature, tmp_path: Path, name: str, other: str) -> None:
    advice = f"it looks like .*: use the data set {other} with the path {re.escape(str(miniature(other)))}$"
    with pytest.raises(DataError, match=advice):
        load(miniature(other), name, tmp_path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_foreign_folder_and_no_path_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    root = write_folder(tmp_path / "faces", each=1)
    with pytest.raises(DataError, match=r"faces must hold .*, but does not; check the path$"):
        load(root, name, tmp_path)
    with pytest.raises(DataError, match=f"^{name} needs the path of a folder with .*, but got none; give its path$"):
        reader(name).load(None, cache=tmp_path, options={})
    with pytest.raises(DataError, match="is no folder; check the path"):
        load(root / "neutral" / "000.png", name, tmp_path)


def test_the_data_set_folder_names_published_sets(miniature: Miniature, tmp_path: Path) -> None:
    folder = registry.load("dataset", "folder")
    for form in ("rafdb", "affectnet"):
        with pytest.raises(DataError, match=f"it looks like .*: use the data set {form} with the path "):
            folder.load(miniature(form), cache=tmp_path, options={})
    data = folder.load(miniature("ck48"), cache=tmp_path, options={})
    assert any("looks like CK+" in note and "data set ckplus" in note for note in data.notes)


def test_one_class_is_refused(miniature: Miniature, tmp_path: Path) -> None:
    shutil.copytree(miniature("jaffe"), tmp_path / "set")
    for path in (tmp_path / "set").glob("*"):
        if ".HA" not in path.name:
            path.unlink()
    with pytest.raises(DataError, match="must hold training faces of at least two classes, but has only 'happy'"):
        load(tmp_path / "set", "jaffe", tmp_path)


def test_folders_that_cannot_be_read_are_passed_over(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(miniature("jaffe"), tmp_path / "data" / "set")
    (tmp_path / "data" / "locked").mkdir()
    genuine = Path.is_dir

    def is_dir(path: Path) -> bool:
        if path.name == "locked" or path.parent.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return genuine(path)

    monkeypatch.setattr(Path, "is_dir", is_dir)  # for root nothing is locked
    with pytest.raises(DataError, match=r"one level too high for JAFFE; give .*data/set$"):
        load(tmp_path / "data", "jaffe", tmp_path)
    with pytest.raises(DataError, match=r"it looks like JAFFE: use the data set jaffe with the path .*data/set$"):
        load(tmp_path / "data", "rafdb", tmp_path)
