"""dlib: what it says where it is not installed, and the file that it does not take."""

import sys
from pathlib import Path

import pytest

from nas.errors import ConfigError, MissingPackageError
from nas.vision.detectors.dlib import DETECTOR


def test_a_missing_dlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingPackageError, match=r"needs dlib: pip install 'fer-nas\[dlib\]'"):
        DETECTOR.load()


def test_a_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"takes no file, but got a.dat"):
        DETECTOR.load(model=Path("a.dat"))
