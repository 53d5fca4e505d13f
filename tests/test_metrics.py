"""Metrics, against closed forms and slow implementations."""

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.data.base import Images, Split
from nas.errors import CandidateError
from nas.metrics import Floats, Score, score, score_from_confusion

CLASSES = ("angry", "happy", "sad")
PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


def split(labels: list[int]) -> Split:
    """Images whose first pixel holds their index."""
    images = np.zeros((len(labels), 1, 32, 32), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    return Split(images=images, labels=np.array(labels, np.int64))


def one_hot(predicted: list[int]) -> "npt.NDArray[np.float32]":
    return np.eye(3, dtype=np.float32)[predicted]


def scored(pairs: list[tuple[int, int]], *, batch: int = 7) -> Score:
    table = one_hot([p for _, p in pairs])

    def predict(images: Images) -> Floats:
        return table[images[:, 0, 0, 0]]

    return score(predict, split([t for t, _ in pairs]), CLASSES, batch_size=batch)


def test_worked_example() -> None:
    s = scored([(0, 0), (0, 1), (1, 1), (1, 1), (2, 1), (2, 2)])
    assert s.accuracy == pytest.approx(4 / 6)
    assert s.recall == {"angry": 0.5, "happy": 1.0, "sad": 0.5}
    assert s.balanced_accuracy == pytest.approx(2 / 3)
    # F1 is 2 TP / (labels + predictions): 2/3, 4/6, 2/3.
    assert s.macro_f1 == pytest.approx((2 / 3 + 4 / 6 + 2 / 3) / 3)
    assert s.confusion == [[1, 1, 0], [0, 2, 0], [0, 1, 1]]
    assert s.n == 6


@given(pairs=PAIRS)
def test_metrics_equal_a_slow_implementation(pairs: list[tuple[int, int]]) -> None:
    s = scored(pairs)
    assert s.accuracy == pytest.approx(sum(t == p for t, p in pairs) / len(pairs))
    f1 = []
    for k in {t for t, _ in pairs} | {p for _, p in pairs}:
        hits = sum(t == p == k for t, p in pairs)
        precision = hits / max(1, sum(p == k for _, p in pairs))
        recall = hits / max(1, sum(t == k for t, _ in pairs))
        f1.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    assert s.macro_f1 == pytest.approx(sum(f1) / len(f1))
    assert set(s.recall) == {CLASSES[t] for t, _ in pairs}
    assert s.low <= s.accuracy <= s.high


@given(pairs=PAIRS, batch=st.integers(1, 70))
def test_batch_size_changes_nothing(pairs: list[tuple[int, int]], batch: int) -> None:
    assert scored(pairs, batch=batch) == scored(pairs)


def test_json_round_trip() -> None:
    s = scored([(0, 0), (1, 2)])
    assert Score.from_dict(json.loads(json.dumps(s.to_dict()))) == s


def test_the_first_of_equal_probabilities_counts() -> None:
    s = score(lambda images: np.full((len(images), 3), 1 / 3, np.float32), split([0, 1]), CLASSES)
    assert s.confusion == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_predictions_of_another_shape_or_not_finite_are_refused() -> None:
    with pytest.raises(CandidateError, match=r"shape \(2, 3\), but got \(2, 4\)"):
        score(lambda images: np.zeros((len(images), 4), np.float32), split([0, 1]), CLASSES)
    with pytest.raises(CandidateError, match="must be finite"):
        score(lambda images: np.full((len(images), 3), np.nan, np.float32), split([0, 1]), CLASSES)
    with pytest.raises(ValueError, match="at least one image"):
        score(lambda images: np.zeros((len(images), 3), np.float32), split([]), CLASSES)


def test_metrics_of_the_confusion_matrix_are_those_of_the_predictions() -> None:
    s = scored([(0, 0), (0, 1), (2, 2)])
    assert score_from_confusion(np.array(s.confusion), CLASSES) == s
