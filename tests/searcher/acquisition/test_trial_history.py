"""Trial history: the archive, the subsample that models are fitted to, and trials of other searches."""

import numpy as np

from nas.searcher.acquisition.trial_history import (
    MAX_FEASIBLE_TRIALS,
    MAX_OTHER_TRIALS,
    TrialHistory,
    TrialOutcomes,
)


def a_history(kinds: str, seed: int = 0) -> TrialHistory:
    """One trial for each letter: (f)easible, (i)nfeasible, (l)ow fidelity only, (r)unning."""
    rng, letters = np.random.default_rng(seed), np.array(list(kinds))
    feasible = letters == "f"
    outcomes = TrialOutcomes(
        values=np.where(feasible[:, None], rng.random((len(letters), 2)), np.nan),
        low_fidelity_values=np.full((len(letters), 2), np.nan), is_feasible=feasible, is_infeasible=letters == "i",
        is_low_fidelity_only=letters == "l", is_prior=np.zeros(len(letters), dtype=bool),
    )  # fmt: skip
    return TrialHistory(codes=np.arange(len(letters))[:, None], outcomes=outcomes)


def test_a_trial_without_a_flag_is_running() -> None:
    assert a_history("filr").outcomes.is_running.tolist() == [False, False, False, True]


def test_the_archive_holds_the_non_dominated_feasible_trials() -> None:
    history = a_history("fifrflf")
    values = history.outcomes.values
    expected = [
        i
        for i in np.flatnonzero(history.outcomes.is_feasible)
        if not any((other >= values[i]).all() and (other > values[i]).any() for other in values)
    ]
    assert history.archive.tolist() == expected


def test_a_short_history_is_kept_whole() -> None:
    history = a_history("fifrfl" * 10)
    np.testing.assert_array_equal(history.subsampled().codes, history.codes)


def test_a_long_history_keeps_the_archive_the_worst_and_all_running_trials() -> None:
    history = a_history("r" + "fffil" * 400)
    kept = history.subsampled()
    numbers = set(kept.codes[:, 0].tolist())
    feasible = np.flatnonzero(history.outcomes.is_feasible)
    worst = feasible[history.outcomes.values[feasible].argmin(axis=0)]
    assert {0, *history.archive.tolist(), *worst.tolist()} <= numbers
    n_extra = len(history.archive) + 2
    assert MAX_FEASIBLE_TRIALS <= kept.outcomes.is_feasible.sum() <= MAX_FEASIBLE_TRIALS + n_extra
    assert kept.outcomes.is_infeasible.sum() == kept.outcomes.is_low_fidelity_only.sum() == MAX_OTHER_TRIALS
    assert (np.diff(kept.codes[:, 0]) > 0).all(), "oldest first"


def test_trials_of_other_searches_are_neither_feasible_nor_running() -> None:
    prior = TrialHistory.of_prior_trials(np.zeros((3, 1), dtype=np.int64), np.ones((3, 2)), np.full((3, 2), np.nan))
    joined = prior.outcomes + a_history("fr").outcomes
    assert joined.is_prior.tolist() == [True] * 3 + [False] * 2
    assert joined.is_running.tolist() == [False] * 4 + [True]
    assert joined.is_feasible.tolist() == [False] * 3 + [True, False]
    assert not prior.archive.size
