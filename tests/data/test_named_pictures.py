"""Named pictures: which folders and names are of the set."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from nas.data.named_pictures import NamedPictures
from nas.errors import DataError
from tests.data.miniatures import pictures
from tests.data.sources import write_image


class Letters(NamedPictures):
    """Pictures named by person and class, as 1-h."""

    name = "letters"
    title = "Letters"
    layout = "pictures named as 1-h.png"
    pattern = re.compile(r"(?P<subject>\d)-(?P<label>[A-Z])", re.IGNORECASE)
    labels: ClassVar = {"h": "happy", "s": "sad"}

    def is_part(self, folder: Path) -> bool:
        return folder.name.startswith("part")

    def is_wanted(self, match: re.Match[str], options: Any) -> bool:
        return match["subject"] != "9"


@pytest.fixture
def letters(tmp_path: Path) -> Callable[..., Path]:
    def write(*names: str) -> Path:
        for name, face in zip(names, pictures(), strict=False):
            write_image(tmp_path / "set" / name, face)
        return tmp_path / "set"

    return write


def test_names_are_read_in_any_case_and_others_are_counted(letters: Callable[..., Path], tmp_path: Path) -> None:
    names = [f"part{i}/{i}-{label}.png" for i in range(6) for label in "Hs"]
    root = letters(*names, "part0/9-h.png", "part0/0-x.png", "part1/face.png")
    data = Letters().load(root, cache=tmp_path / "cache", options={"size": "32"})
    splits = [split for split in (data.train, data.val, data.test) if split is not None]
    # Letter x is no class, and the ninth person is not wanted.
    assert np.bincount(np.concatenate([split.labels for split in splits])).tolist() == [6, 6]
    assert data.classes == ("happy", "sad")
    assert "pictures of other names were left out: 2, as 0-x.png" in data.notes
    assert data.train.groups is None


def test_a_part_is_no_root(letters: Callable[..., Path], tmp_path: Path) -> None:
    root = letters("part0/0-h.png")
    assert Letters().recognises(root)
    with pytest.raises(DataError, match=r"part0 is one level too low for Letters; give .*set$"):
        Letters().load(root / "part0", cache=tmp_path / "cache", options={})


def test_options_that_select_nothing_are_refused(letters: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold pictures of Letters that the options select, but has none"):
        Letters().load(letters("9-h.png", "9-s.png"), cache=tmp_path / "cache", options={})
