"""Sampler cache: the codes and values of finished trials, computed once each although every proposal needs them all.

The cache changes no proposal. Without it, or in another process, the same rows are computed again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import takewhile
from operator import is_
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from nas.searcher.acquisition.encoding import Codes, GeneEncoding, as_bytes

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


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


@dataclass(frozen=True, kw_only=True)
class TrialColumns:
    """The rows of n trials that have a place in the space, as arrays: see `TrialRow`."""

    codes: Codes
    values: Floats
    low_fidelity_values: Floats
    is_low_fidelity_only: Mask
    is_running: Mask

    @classmethod
    def of_rows(cls, rows: Sequence[TrialRow], *, n_genes: int, n_objectives: int) -> "TrialColumns":
        """The columns of rows."""
        rows = [row for row in rows if row.codes is not None]
        values, low_fidelity_values = (
            np.array(column, dtype=np.float64).reshape(len(rows), n_objectives)
            for column in ([row.values for row in rows], [row.low_fidelity_values for row in rows])
        )
        codes = np.frombuffer(b"".join(row.codes or b"" for row in rows), dtype=np.int64).reshape(len(rows), n_genes)
        return cls(
            codes=codes, values=values, low_fidelity_values=low_fidelity_values,
            is_low_fidelity_only=np.array([row.is_low_fidelity_only for row in rows], dtype=bool),
            is_running=np.array([row.is_running for row in rows], dtype=bool),
        )  # fmt: skip

    def __add__(self, other: "TrialColumns") -> "TrialColumns":
        names = [field.name for field in fields(self)]
        return TrialColumns(**{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names})


class TrialTable:
    """Rows of the trials of one study in one space.

    The oldest trials that have all ended are settled: their rows are kept as arrays, and no proposal visits them again.

    Attributes:
        space: name to distribution.
        encoding: of that space.
        identities: codes, as bytes, to the identity of their candidate.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.space, self.encoding = dict(space), GeneEncoding(space)
        self.identities: dict[bytes, Any] = {}
        self._row_by_number: dict[int, tuple[FrozenTrial, TrialRow]] = {}
        self._forget_settled()

    def _forget_settled(self) -> None:
        self._settled_trials: list[FrozenTrial] = []
        self._settled_columns: TrialColumns | None = None
        self._settled_identities: set[Any] = set()
        self._n_identified = 0

    def columns_of(
        self,
        trials: Sequence[FrozenTrial],
        make_rows: Callable[[Sequence[FrozenTrial]], Sequence[TrialRow]],
        *,
        is_used: Callable[[FrozenTrial], bool],
        n_objectives: int,
    ) -> TrialColumns:
        """The columns of the trials of a study, oldest first.

        Args:
            trials: all of them, in order.
            make_rows: makes rows that are missing.
            is_used: whether a trial that has not ended counts.
            n_objectives: number of objectives.
        """
        # The identity of the frozen trials: another study has trials of the same numbers.
        if len(trials) < len(self._settled_trials) or not all(map(is_, self._settled_trials, trials)):
            self._forget_settled()
        rest = trials[len(self._settled_trials) :]
        ended = [*takewhile(lambda trial: trial.state.is_finished(), rest)]
        size = {"n_genes": len(self.encoding.names), "n_objectives": n_objectives}
        if ended or self._settled_columns is None:
            columns = TrialColumns.of_rows(self.rows_of(ended, make_rows), **size)
            self._settled_columns = self._settled_columns + columns if self._settled_columns else columns
            self._settled_trials += ended
            for trial in ended:
                self._row_by_number.pop(trial.number, None)
        used = [trial for trial in rest[len(ended) :] if is_used(trial)]
        return self._settled_columns + TrialColumns.of_rows(self.rows_of(used, make_rows), **size)

    def identities_of(self, codes: Codes, identify: Callable[[Codes], Sequence[Any]]) -> set[Any]:
        """The identities of all trials.

        Args:
            codes: [n, g] of the last `columns_of`.
            identify: codes [k, g] to their identities, for codes that were not met before.
        """
        n_settled = 0 if self._settled_columns is None else len(self._settled_columns.codes)
        self._settled_identities.update(self._identify(codes[self._n_identified : n_settled], identify))
        self._n_identified = n_settled
        return self._settled_identities | {*self._identify(codes[n_settled:], identify)}

    def _identify(self, codes: Codes, identify: Callable[[Codes], Sequence[Any]]) -> list[Any]:
        keys = as_bytes(codes)
        new = [i for i, key in enumerate(keys) if key not in self.identities]
        self.identities.update(zip([keys[i] for i in new], identify(codes[new]), strict=True))
        return [self.identities[key] for key in keys]

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
