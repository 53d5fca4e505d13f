"""Trial history: the codes of all trials so far and their outcomes, every objective maximised."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nas.pareto import non_dominated
from nas.searcher.acquisition.encoding import Codes
from nas.searcher.acquisition.subsample import newest_and_spread

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MAX_FEASIBLE_TRIALS, MAX_OTHER_TRIALS = 300, 150
"""Trials that models are fitted to: feasible ones, and each of the infeasible and the low-fidelity ones. The fit of a
Gaussian process is cubic in their number."""


@dataclass(frozen=True, kw_only=True)
class TrialOutcomes:
    """Outcomes of n trials, oldest first. A trial with none of the four flags is still running.

    Attributes:
        values: [n, m] final objective values, maximised; NaN where unknown.
        low_fidelity_values: [n, m] objective values at low fidelity, maximised; NaN where there is none.
        is_feasible: [n], whether the trial finished with all values and kept its constraints.
        is_infeasible: [n], whether it finished without being feasible.
        is_low_fidelity_only: [n], whether training stopped at low fidelity.
        is_prior: [n], whether it belongs to another search: its values train the models, and it is on no front.
    """

    values: Floats
    low_fidelity_values: Floats
    is_feasible: Mask
    is_infeasible: Mask
    is_low_fidelity_only: Mask
    is_prior: Mask

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice) -> "TrialOutcomes":
        return TrialOutcomes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def __add__(self, other: "TrialOutcomes") -> "TrialOutcomes":
        return TrialOutcomes(
            **{
                field.name: np.concatenate([getattr(self, field.name), getattr(other, field.name)])
                for field in fields(self)
            }
        )

    @property
    def is_running(self) -> Mask:
        """[n], whether the trial is still running."""
        return np.asarray(~(self.is_feasible | self.is_infeasible | self.is_low_fidelity_only | self.is_prior))


@dataclass(frozen=True, kw_only=True)
class TrialHistory:
    """Codes [n, g] of trials, and their outcomes."""

    codes: Codes
    outcomes: TrialOutcomes

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice) -> "TrialHistory":
        return TrialHistory(codes=self.codes[rows], outcomes=self.outcomes[rows])

    @classmethod
    def of_prior_trials(cls, codes: Codes, values: Floats, low_fidelity_values: Floats) -> "TrialHistory":
        """Trials of other searches: codes [k, g] with values and low-fidelity values [k, m], NaN where unknown."""
        no, yes = np.zeros(len(codes), dtype=bool), np.ones(len(codes), dtype=bool)
        outcomes = TrialOutcomes(
            values=values, low_fidelity_values=low_fidelity_values, is_feasible=no, is_infeasible=no,
            is_low_fidelity_only=no, is_prior=yes,
        )  # fmt: skip
        return cls(codes=codes, outcomes=outcomes)

    @cached_property
    def archive(self) -> npt.NDArray[np.int64]:
        """Rows of the non-dominated feasible trials."""
        feasible = np.flatnonzero(self.outcomes.is_feasible)
        values = self.outcomes.values[feasible]
        return feasible[non_dominated(values, [True] * values.shape[1])]

    def subsampled(self) -> "TrialHistory":
        """The trials that models are fitted to, oldest first.

        - the archive and the worst of each objective, which set the front and the range;
        - all running trials, so that no two workers propose the same region;
        - at most `MAX_FEASIBLE_TRIALS` feasible, and `MAX_OTHER_TRIALS` infeasible and low-fidelity ones: half the
          newest, half spread over the older ones.
        """
        outcomes = self.outcomes
        feasible, infeasible = np.flatnonzero(outcomes.is_feasible), np.flatnonzero(outcomes.is_infeasible)
        parts = (
            self.archive,
            feasible[outcomes.values[feasible].argmin(axis=0)],
            np.flatnonzero(outcomes.is_running),
            newest_and_spread(feasible, MAX_FEASIBLE_TRIALS),
            newest_and_spread(infeasible, MAX_OTHER_TRIALS),
            newest_and_spread(np.flatnonzero(outcomes.is_low_fidelity_only), MAX_OTHER_TRIALS),
        )
        return self[np.unique(np.concatenate(parts))]
