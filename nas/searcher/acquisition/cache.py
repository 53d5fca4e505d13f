"""Sampler cache: the codes and values of finished trials, computed once each although every proposal needs them all.

The cache changes no proposal. Without it, or in another process, the same rows are computed again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from nas.searcher.acquisition.encoding import GeneEncoding


class TrialRow(NamedTuple):
    """One trial, as a sampler needs it.

    Attributes:
        codes: its codes [g], as the bytes of their array; None where it has no place in the space.
        values: [m] final objective values in the study's units; NaN without any.
        low_fidelity_values: [m] objective values at low fidelity, None or NaN where there is none.
        is_low_fidelity_only: whether training stopped at low fidelity.
        is_running: whether the trial is still running.
    """

    codes: bytes | None
    values: Sequence[float]
    low_fidelity_values: Sequence[float | None]
    is_low_fidelity_only: bool
    is_running: bool


class TrialTable:
    """Rows of the trials of one study in one space.

    Attributes:
        space: name to distribution.
        encoding: of that space.
        identities: codes, as bytes, to the identity of their candidate.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.space, self.encoding = dict(space), GeneEncoding(space)
        self.identities: dict[bytes, Any] = {}
        self._row_by_number: dict[int, tuple[FrozenTrial, TrialRow]] = {}

    def rows_of(
        self, trials: Sequence[FrozenTrial], make_rows: Callable[[Sequence[FrozenTrial]], Sequence[TrialRow]]
    ) -> list[TrialRow]:
        """The rows of trials; `make_rows` makes those that are missing. A finished trial never changes again."""
        cached = [self._row_by_number.get(trial.number, (None, None)) for trial in trials]
        # The identity of the frozen trial, not its number: another study has trials of the same numbers.
        rows = [row if known is trial else None for trial, (known, row) in zip(trials, cached, strict=True)]
        new = [i for i, row in enumerate(rows) if row is None]
        for i, row in zip(new, make_rows([trials[i] for i in new]), strict=True):
            rows[i] = row
            if not row.is_running:
                self._row_by_number[trials[i].number] = (trials[i], row)
        return [row for row in rows if row is not None]


class SamplerCache:
    """Cache of the samplers that one study makes in turn in one process; it holds the table of the last space."""

    def __init__(self) -> None:
        self._table: TrialTable | None = None

    def table_of(self, space: Mapping[str, BaseDistribution]) -> TrialTable:
        """The table of this space, an empty one where the last space was another."""
        table = self._table
        if table is None or table.space != space:
            table = self._table = TrialTable(space)
        return table
