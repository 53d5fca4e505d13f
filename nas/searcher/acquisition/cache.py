"""What finished trials stand for, worked out once for each: all of them are looked at for every new one.

A memory changes nothing of what is asked: without it, or in another process, the same is worked out again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from nas.searcher.acquisition.encoding import GeneEncoding


class TrialRow(NamedTuple):
    """What one trial has told.

    Attributes:
        codes: its codes [g], as the bytes of their array; None where it has no place in the space.
        values: [m] in the study's units; NaN without any.
        look: [m] at a first look, None or NaN where there was nothing to see.
        stopped: whether that look was all.
        running: whether it goes on.
    """

    codes: bytes | None
    values: Sequence[float]
    low_fidelity_values: Sequence[float | None]
    is_low_fidelity_only: bool
    is_running: bool


class TrialTable:
    """The trials of one study in one space.

    Attributes:
        genes: of that space.
        names: codes, as bytes, to the identity of their candidate.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.space, self.encoding = dict(space), GeneEncoding(space)
        self.identities: dict[bytes, Any] = {}
        self._row_by_number: dict[int, tuple[FrozenTrial, TrialRow]] = {}

    def rows_of(
        self, trials: Sequence[FrozenTrial], make_rows: Callable[[Sequence[FrozenTrial]], Sequence[TrialRow]]
    ) -> list[TrialRow]:
        """The rows of trials; `make_rows` is asked for those that are not known. Finished ones never change again."""
        found = [self._row_by_number.get(trial.number, (None, None)) for trial in trials]
        rows = [row if known is trial else None for trial, (known, row) in zip(trials, found, strict=True)]
        new = [i for i, row in enumerate(rows) if row is None]
        for i, row in zip(new, make_rows([trials[i] for i in new]), strict=True):
            rows[i] = row
            if not row.is_running:
                self._row_by_number[trials[i].number] = (trials[i], row)
        return [row for row in rows if row is not None]


class SamplerCache:
    """For the samplers of one study, in one process."""

    def __init__(self) -> None:
        self._table: TrialTable | None = None

    def table_of(self, space: Mapping[str, BaseDistribution]) -> TrialTable:
        """What is remembered of this space; the last one is kept."""
        rows = self._table
        if rows is None or rows.space != space:
            rows = self._table = TrialTable(space)
        return rows
