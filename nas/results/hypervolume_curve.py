"""Hypervolume of the search front after each finished candidate, updated by each one instead of computed from all."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from nas.pareto import Points, hypervolume, non_dominated
from nas.results.front import maximize_flags, objective_values
from nas.results.record import Record

N_CHECKED_AT_ONCE = 256
"""Candidates that are compared with a front at once."""


class HypervolumeCurve:
    """The search front after each finished candidate of one run.

    Kept are the fronts that differ from the one before, so that a curve costs time for these alone. The reference point
    moves while a search runs, and the fronts do not depend on it.

    Args:
        objectives: of the search.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self._objectives, self._maximize = tuple(objectives), maximize_flags(objectives)
        self._reset()

    def _reset(self) -> None:
        self._n_candidates = 0
        self._last: Record | None = None
        self._fronts: list[tuple[int, Points]] = []  # candidates before it, and its points [k, m]
        self._worst = np.zeros(len(self._objectives))

    def update(self, records: Sequence[Record]) -> "HypervolumeCurve":
        """Take in the records that were added since the last call.

        Args:
            records: those of the search, oldest first, with all of the last call in front; else the curve starts anew.

        Returns:
            This curve.
        """
        if self._n_candidates > len(records) or (self._last and records[self._n_candidates - 1] is not self._last):
            self._reset()
        feasible = [i for i in range(self._n_candidates, len(records)) if records[i].is_feasible]
        points = objective_values([records[i] for i in feasible], self._objectives)
        self._worst = np.fmax(self._worst, _worst_values(points))
        for first in range(0, len(points), N_CHECKED_AT_ONCE):
            rows = slice(first, first + N_CHECKED_AT_ONCE)
            self._add(feasible[rows], points[rows])
        self._n_candidates, self._last = len(records), records[-1] if records else None
        return self

    def _add(self, numbers: Sequence[int], points: Points) -> None:
        """Take in feasible candidates with these numbers of candidates before them, and points [n, m]."""
        signs = np.where(self._maximize, 1.0, -1.0)
        members = self._fronts[-1][1] if self._fronts else points[:0]
        # Most candidates are dominated by an earlier front, and one comparison of all tells.
        is_dominated = np.any(np.all(members[None] * signs >= points[:, None] * signs, axis=2), axis=1)
        for i in np.flatnonzero(~is_dominated).tolist():
            candidates = np.vstack([members, points[i]])
            on_front = non_dominated(candidates, self._maximize)
            if on_front[-1]:  # a dominated candidate changes neither front nor hypervolume
                members = candidates[on_front]
                self._fronts.append((numbers[i], members))

    def reference_point(self) -> list[float]:
        """Accuracy 0, and the largest value of each cost among feasible records."""
        return _reference_of(self._worst, self._maximize)

    def shares(self, ref_point: Sequence[float] | None = None) -> list[float]:
        """Hypervolume after each candidate, as a share of the box below the reference.

        The box reaches from the reference point to accuracy 1 at no cost, so values are 0..1 and more is better. Curves
        compare only with the same reference point.

        Args:
            ref_point: one value for each objective; None takes `reference_point`.
        """
        ref_point = self.reference_point() if ref_point is None else list(ref_point)
        ideal = [1.0 if up else 0.0 for up in self._maximize]
        box = float(np.prod(np.abs(np.subtract(ideal, ref_point))))
        shares = np.zeros(self._n_candidates)
        for first, members in self._fronts:
            shares[first:] = hypervolume(members, ref_point, self._maximize) / box
        return [*map(float, shares)]


def reference_point(records: Iterable[Record], objectives: Sequence[str]) -> list[float]:
    """Reference point of the hypervolume: see `HypervolumeCurve.reference_point`.

    It moves while a search runs, so curves are computed with the reference point of all their records.
    """
    points = objective_values([r for r in records if r.is_feasible], objectives)
    return _reference_of(_worst_values(points), maximize_flags(objectives))


def hypervolume_curve(
    records: Iterable[Record], objectives: Sequence[str], *, ref_point: Sequence[float] | None = None
) -> list[float]:
    """Hypervolume of the search front after each finished candidate, see `HypervolumeCurve.shares`.

    Args:
        records: of one run, oldest first; those of the search count.
        objectives: of the search.
        ref_point: one value for each objective; None takes `reference_point` of these records.
    """
    return HypervolumeCurve(objectives).update([r for r in records if r.phase == "search"]).shares(ref_point)


def _worst_values(points: Points) -> npt.NDArray[np.float64]:
    """[m] The largest value of each column of points [n, m], 0 or more; NaN is ignored."""
    return np.asarray(np.fmax.reduce(points, axis=0, initial=0.0))


def _reference_of(worst: npt.NDArray[np.float64], maximize: Sequence[bool]) -> list[float]:
    # A point on the reference has no volume, so the worst cost is raised by 1e-9 of itself; 1 where none is known.
    return [0.0 if up else float(w) * (1 + 1e-9) or 1.0 for w, up in zip(worst, maximize, strict=True)]
