"""Published baselines on a data set: how a foreign file is read, and its score."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData
from nas.distillation.class_orders import KNOWN_ORDERS
from nas.errors import ConfigError
from nas.evaluation import onnx_classifier
from nas.evaluation.onnx_classifier import file_digest, find_classifier, score_classifier
from nas.files import file_sha256
from tests.fake_teachers import brightness_of_quadrants, expressions, in_order


def faces_with_wrong_labels() -> FaceData:
    """210 faces to select on, of which the first 30 have another label than their brightness says."""
    data = expressions()
    labels = data.train.labels.copy()
    labels[:30] = (labels[:30] + 1) % 7
    return replace(data, val=replace(data.train, labels=labels))


@pytest.mark.parametrize("order", ["FER2013", "RAF-DB", "FER+"])
def test_a_file_is_scored_in_its_own_order_of_classes(tmp_path: Path, order: str) -> None:
    data = faces_with_wrong_labels()
    source = find_classifier(Path(in_order(tmp_path / "a=2.onnx", KNOWN_ORDERS[order])), data)
    score = score_classifier(source, data)
    assert (score.n, score.accuracy) == (210, 180 / 210)
    # 30 wrong labels fall on the 7 classes as 5, 5, 4, ...: class k has 30 faces, of which 4 or 5 are wrong.
    wrong = np.bincount((np.arange(30) + 1) % 7, minlength=7)
    assert score.recall == pytest.approx(dict(zip(data.classes, 1 - wrong / np.bincount(data.val.labels), strict=True)))
    assert score.low < score.accuracy < score.high


def test_progress_is_logged_where_scoring_takes_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_classifier, "LOG_EVERY_S", -1.0)
    data, lines = faces_with_wrong_labels(), list[str]()
    score_classifier(find_classifier(Path(in_order(tmp_path / "a.onnx", data.classes)), data), data, log=lines.append)
    assert lines == ["scored a.onnx on 210 of 210 images"]


def test_a_wrong_number_of_classes_is_refused(tmp_path: Path) -> None:
    path = brightness_of_quadrants(tmp_path / "four.onnx")
    with pytest.raises(ConfigError, match=r"^baseline four.onnx must have the classes angry, .*but has 4 outputs") as e:
        find_classifier(path, expressions())
    assert "--teacher" not in str(e.value)
    assert str(e.value).endswith("in the ONNX metadata property `labels`, a JSON list")


def test_an_unknown_order_of_classes_is_refused(tmp_path: Path) -> None:
    data = expressions()
    path = Path(in_order(tmp_path / "odd.onnx", tuple(np.roll(data.classes, 3))))
    with pytest.raises(ConfigError, match=r"^baseline odd.onnx must name its classes or have them in a known order"):
        find_classifier(path, data)


def test_only_an_onnx_file_has_a_score(tmp_path: Path) -> None:
    data = expressions()
    source = find_classifier(Path(in_order(tmp_path / "a.onnx", data.classes)), data)
    with pytest.raises(ConfigError, match=r"a baseline must be an ONNX file, but got a\.onnx"):
        score_classifier(replace(source, onnx_teacher=None), data)


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    path = brightness_of_quadrants(tmp_path / "a.onnx")
    assert file_digest(path) == file_sha256(path)
    (tmp_path / "b.onnx").write_bytes(b"no model")
    with pytest.raises(ConfigError, match="must be an ONNX file"):
        file_digest(tmp_path / "b.onnx")
