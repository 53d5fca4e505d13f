"""Pareto fronts of a run: the search front, and the verified front after full training.

The search front is optimistic: its members were selected by the scores of their short training. They are therefore
trained in full and measured again, and a member that is dominated after that is dropped. Both fronts are shown side by
side.

The front is non-dominated in all objectives of the run. With size or energy as a third objective it may hold a member
that another one beats in accuracy and latency, because it is smaller.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nas.config import OBJECTIVES
from nas.latency.int8_speedup import NO_GAIN
from nas.pareto import Points, non_dominated, spread
from nas.results.record import Record


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A member of the search front that is not on the verified front.

    Attributes:
        search: its record in the search.
        verified: its record after full training.
        dominated_by: the verified member that dominates it; None where it was dropped for another reason.
        reason: one phrase.
    """

    search: Record
    verified: Record
    dominated_by: Record | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fronts:
    """The two fronts of a run and the members dropped between them.

    Attributes:
        search: the front as the search left it, fastest first.
        verified: the front after full training, fastest first; empty before any.
        dropped: verified members of the search front that are not on the verified front, fastest first.
    """

    search: list[Record]
    verified: list[Record]
    dropped: list[Dropped]

    @property
    def final(self) -> list[Record]:
        """The verified front, or the search front while the verified front is empty."""
        return self.verified or self.search


def search_front(records: Iterable[Record], objectives: Sequence[str]) -> list[Record]:
    """Non-dominated feasible candidates of the search, one record for each key, fastest first."""
    return _feasible_front(latest_by_key(records, "search"), objectives)


def representatives(members: Sequence[Record], objectives: Sequence[str], k: int) -> list[Record]:
    """At most k members that represent a front; for k of 2 or more, the most accurate one is among them.

    The others come from `nas.pareto.spread` in its order, so that a larger k only adds members.
    """
    points = objective_values(members, objectives)
    chosen = spread(points, maximize_flags(objectives), k)
    if k > 1 and members:
        best = int(np.argmax(points[:, objectives.index("accuracy")]))
        if best not in chosen:
            chosen = [*chosen[: k - 1], best]
    return [members[i] for i in chosen]


def verified_front(records: Iterable[Record], objectives: Sequence[str]) -> list[Record]:
    """The front of the candidates that were trained in full and measured again, fastest first; empty before any."""
    return _feasible_front(latest_by_key(records, "verified"), objectives)


def pareto_front(records: Iterable[Record], objectives: Sequence[str]) -> list[Record]:
    """The verified front, or the search front while no verified candidate is complete and feasible."""
    records = list(records)
    return verified_front(records, objectives) or search_front(records, objectives)


def dropped_members(records: Iterable[Record], objectives: Sequence[str]) -> list[Dropped]:
    """Verified members of the search front that are not on the verified front, fastest first."""
    return compute_fronts(records, objectives).dropped


def compute_fronts(records: Iterable[Record], objectives: Sequence[str]) -> Fronts:
    """Both fronts and the members that dropped off between them, each computed once."""
    records = list(records)
    trained = {r.key: r for r in latest_by_key(records, "verified")}
    searched = search_front(records, objectives)
    verified = _feasible_front([*trained.values()], objectives)
    stayed = {r.key for r in verified}
    dropped = [
        _explain_drop(member, trained[member.key], verified, objectives)
        for member in searched
        if member.key in trained and member.key not in stayed
    ]
    return Fronts(search=searched, verified=verified, dropped=dropped)


def objective_values(records: Sequence[Record], objectives: Sequence[str]) -> Points:
    """Objective values [n, m]; NaN where one is unknown."""
    table = [[r.objective(o) for r in records] for o in objectives]
    return np.ascontiguousarray(np.array(table, dtype=np.float64).reshape(len(objectives), len(records)).T)


def maximize_flags(objectives: Sequence[str]) -> list[bool]:
    """Whether more is better, for each objective."""
    return [OBJECTIVES[o] for o in objectives]


def is_feasible(record: Record) -> bool:
    """Whether a record is complete and satisfies every constraint."""
    return record.is_feasible


def latest_by_key(records: Iterable[Record], phase: str) -> list[Record]:
    """The latest record of each key in a phase, in the order the keys first occurred.

    Of a member that was trained with several seeds, it is the record of seed 0, which continues the training of the
    search: taking the best of them would overstate its accuracy.
    """
    latest: dict[str, Record] = {}
    for record in records:
        if record.phase == phase and not record.seed:
            latest[record.key] = record
    return list(latest.values())


def count_without_int8_speedup(records: Iterable[Record]) -> int:
    """Candidates whose INT8 units are no faster, so that their FP32 baselines took their places."""
    return sum(r.violations.get(NO_GAIN, 0.0) > 0 for r in records)


def _feasible_front(records: Sequence[Record], objectives: Sequence[str]) -> list[Record]:
    feasible = [r for r in records if is_feasible(r)]
    mask = non_dominated(objective_values(feasible, objectives), maximize_flags(objectives))
    return sorted((r for r, on in zip(feasible, mask, strict=True) if on), key=lambda r: r.objective("latency") or 0.0)


def _explain_drop(search: Record, verified: Record, stayed: Sequence[Record], objectives: Sequence[str]) -> Dropped:
    if verified.status != "complete" or not is_feasible(verified):
        broken = ", ".join(name for name, v in verified.violations.items() if v > 0)
        reason = verified.reason or (f"breaks {broken} after full training" if broken else "was not completed")
        return Dropped(search=search, verified=verified, dominated_by=None, reason=reason)
    signs = np.where(maximize_flags(objectives), 1.0, -1.0)
    mine = objective_values([verified], objectives)[0] * signs
    no_worse = (objective_values(stayed, objectives) * signs >= mine).all(axis=1)
    if not no_worse.any():
        return Dropped(
            search=search, verified=verified, dominated_by=None, reason="an objective is unknown after full training"
        )
    by = stayed[int(no_worse.argmax())]
    return Dropped(
        search=search,
        verified=verified,
        dominated_by=by,
        reason=f"trial {by.trial} is {_describe_margin(by, verified)}",
    )


def _describe_margin(better: Record, worse: Record) -> str:
    """By how much one record beats another, as text."""
    parts = []
    if better.score and worse.score:
        parts.append(f"{100 * (better.score.accuracy - worse.score.accuracy):+.1f} points of accuracy")
    if better.latency and worse.latency:
        parts.append(f"{better.latency.latency_ms - worse.latency.latency_ms:+.3f} ms")
    return ", ".join([*parts, "and no worse in any objective"])
