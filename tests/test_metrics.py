"""The score, against closed forms and slow twins."""

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.data.base import Images, Split
from nas.errors import CandidateError
from nas.metrics import Floats, Score, score, score_from_confusion, wilson_interval

CLASSES = ("angry", "happy", "sad")
PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


def split(labels: list[int]) -> Split:
    """Faces whose first pixel holds their number."""
    images = np.zeros((len(labels), 1, 32, 32), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    return Split(images=images, labels=np.array(labels, np.int64))


def answering(predicted: list[int]) -> "npt.NDArray[np.float32]":
    return np.eye(3, dtype=np.float32)[predicted]


def scored(pairs: list[tuple[int, int]], *, batch: int = 7) -> Score:
    table = answering([p for _, p in pairs])

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
def test_equals_the_slow_twin(pairs: list[tuple[int, int]]) -> None:
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


def test_among_equal_probabilities_the_first_class_counts() -> None:
    s = score(lambda images: np.full((len(images), 3), 1 / 3, np.float32), split([0, 1]), CLASSES)
    assert s.confusion == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_wilson_against_published_values() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for hits, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(hits, n) == pytest.approx((low, high), abs=5e-5)


@given(n=st.integers(1, 10_000), data=st.data())
def test_wilson_solves_its_own_equation(n: int, data: st.DataObject) -> None:
    """Both ends p satisfy |share - p| = z sqrt(p (1 - p) / n), Wilson's definition."""
    hits = data.draw(st.integers(1, n))
    low, high = wilson_interval(hits, n)
    for end in (low, high):
        if 0 < end < 1:
            assert abs(hits / n - end) == pytest.approx(1.959964 * (end * (1 - end) / n) ** 0.5, rel=1e-4, abs=1e-9)
    mirrored = wilson_interval(n - hits, n)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)


def test_wilson_refuses_what_is_no_share() -> None:
    for hits, n in ((1, 0), (-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="an interval needs 0 <= hits <= n"):
            wilson_interval(hits, n)


def test_wrong_predictions_are_refused() -> None:
    with pytest.raises(CandidateError, match=r"shape \(2, 3\), but got \(2, 4\)"):
        score(lambda images: np.zeros((len(images), 4), np.float32), split([0, 1]), CLASSES)
    with pytest.raises(CandidateError, match="must be finite"):
        score(lambda images: np.full((len(images), 3), np.nan, np.float32), split([0, 1]), CLASSES)
    with pytest.raises(ValueError, match="at least one face"):
        score(lambda images: np.zeros((len(images), 3), np.float32), split([]), CLASSES)


def test_from_confusion_is_what_score_computes() -> None:
    s = scored([(0, 0), (0, 1), (2, 2)])
    assert score_from_confusion(np.array(s.confusion), CLASSES) == s
