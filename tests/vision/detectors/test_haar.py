"""haar: what it says where OpenCV or the cascade does not fit."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.errors import ConfigError, MissingPackageError
from nas.vision.detectors import haar
from nas.vision.detectors.haar import DETECTOR


def test_a_file_that_is_no_cascade_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cascade.xml"
    file.write_text("<opencv_storage></opencv_storage>")
    for path in (file, tmp_path / "missing.xml"):
        with pytest.raises(ConfigError, match="needs a cascade of OpenCV"):
            DETECTOR.load(model=path)


def test_opencv_5_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haar, "import_cv2", lambda: SimpleNamespace(__version__="5.0.0"))
    with pytest.raises(MissingPackageError, match=r"needs OpenCV 4.* but this is 5.0.0.*opencv-python-headless<5"):
        DETECTOR.load()


def test_a_missing_opencv_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackageError, match=r"need OpenCV: pip install 'fer-nas\[vision\]'"):
        DETECTOR.load()
