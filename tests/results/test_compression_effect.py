"""Effect of compression: ratios and changes of recall that can be computed by hand."""

import numpy as np
import pytest

from nas.metrics import score_from_confusion
from nas.results.compression_effect import (
    compression_ratio,
    find_baseline,
    large_recall_losses,
    recall_changes,
    size_ratio,
)
from nas.results.record import Record
from tests.fake_runs import CLASSES, a_search, some_record


def with_hits(trial: int, *hits: int, phase: str = "verified") -> Record:
    """A record with so many correct of 20, 40 and 100 faces."""
    counts = np.diag(hits)
    for k, n in enumerate((20, 40, 100)):
        counts[k, (k + 1) % 3] = n - hits[k]
    return some_record(trial, None, 1.0, phase=phase, score=score_from_confusion(counts, CLASSES))


BASE = with_hits(-1, 10, 20, 90, phase="base")


def test_the_baseline_is_the_latest_record_of_its_phase() -> None:
    assert find_baseline(a_search()) is None
    assert find_baseline([*a_search(), BASE, some_record(9, 0.5, 1.0)]) is BASE


def test_ratios_divide_the_uncompressed_by_the_compressed() -> None:
    base = some_record(-1, 0.5, 1.0, phase="base", params=1000, nonzero_params=990, size_bytes=5000)
    small = some_record(1, 0.5, 1.0, params=500, nonzero_params=100, size_bytes=2000)
    assert compression_ratio(base, small) == 10.0
    assert size_ratio(base, small) == 2.5
    assert compression_ratio(base, some_record(2, 0.5, 1.0, nonzero_params=None)) is None
    assert size_ratio(base, some_record(2, 0.5, 1.0, size_bytes=None)) is None


def test_changes_are_in_percentage_points_by_class() -> None:
    found = recall_changes(BASE, with_hits(1, 7, 22, 90))
    assert [(c.name, c.n_images) for c in found] == [("angry", 20), ("happy", 40), ("sad", 100)]
    assert [c.percentage_points for c in found] == pytest.approx([-15.0, 5.0, 0.0])
    assert str(found[0]) == "angry -15.0 points (50% to 35% of 20 faces)"
    assert recall_changes(BASE, some_record(2, None, 1.0)) == []


def test_losses_above_five_points_are_reported_largest_first() -> None:
    assert large_recall_losses(BASE, with_hits(1, 9, 18, 85)) == []  # five points each, to the face
    assert [c.name for c in large_recall_losses(BASE, with_hits(1, 8, 10, 84))] == ["happy", "angry", "sad"]
    assert large_recall_losses(BASE, with_hits(1, 20, 40, 100)) == []


def test_a_class_without_faces_has_no_change() -> None:
    counts = np.array([[5, 1, 0], [0, 0, 0], [0, 0, 8]])
    some = some_record(1, None, 1.0, score=score_from_confusion(counts, CLASSES))
    assert [(c.name, c.n_images) for c in recall_changes(some, some)] == [("angry", 6), ("sad", 8)]
