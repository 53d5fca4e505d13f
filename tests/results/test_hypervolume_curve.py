"""Hypervolume curves by hand, and updated step by step."""

import numpy as np
import pytest

from nas.pareto import hypervolume
from nas.results.hypervolume_curve import HypervolumeCurve, hypervolume_curve, reference_point
from nas.results.record import Record
from tests.fake_runs import a_search, some_record

BOTH = ("accuracy", "latency")


def test_the_hypervolume_curve_by_hand() -> None:
    # Reference: accuracy 0 at 4.8 ms. Boxes: 0.4*3.8; + 0.15*2.8; + 0.05*0.8; trial 3 adds nothing.
    curve = hypervolume_curve(a_search(), BOTH)
    by_hand = [1.52, 1.94, 1.98, 1.98, 1.98]
    assert [4.8 * share for share in curve[:5]] == pytest.approx(by_hand, abs=1e-6)
    assert len(curve) == 8
    assert curve == sorted(curve)


def test_no_feasible_record_gives_a_flat_curve() -> None:
    nothing = [some_record(7, None, None, status="failed")]
    assert hypervolume_curve(nothing, BOTH) == [0.0]
    assert reference_point(nothing, BOTH) == [0.0, 1.0]


def _some_records(n: int) -> list[Record]:
    rng = np.random.default_rng(3)
    statuses = ["failed" if i % 7 == 3 else "complete" for i in range(n)]
    return [
        some_record(i, float(rng.random()), float(rng.uniform(0.5, 9)), status=status)
        for i, status in enumerate(statuses)
    ]


def test_curve_of_many_steps_is_that_of_one() -> None:
    records = _some_records(60)
    curve = HypervolumeCurve(BOTH)
    for n in (0, 1, 2, 30, 31, 60):
        assert curve.update(records[:n]).shares() == hypervolume_curve(records[:n], BOTH)
    reference = reference_point(records, BOTH)
    points = [[r.objective(o) for o in BOTH] for r in records if r.is_feasible]
    whole = hypervolume(np.array(points, dtype=float), reference, [True, False]) / reference[1]
    assert curve.shares()[-1] == pytest.approx(whole)


def test_curve_of_another_file_starts_anew() -> None:
    curve = HypervolumeCurve(BOTH).update(_some_records(20))
    for records in (_some_records(30)[::-1], _some_records(5)):
        assert curve.update(records).shares() == hypervolume_curve(records, BOTH)
