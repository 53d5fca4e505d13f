"""Screened sampler with trials that failed, are running, were enqueued, or were left by a process that died."""

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from nas.searcher.acquisition.encoding import GeneEncoding
from nas.searcher.samplers.screened import ScreenedSampler
from tests.searcher.samplers.small_search import SPACE, a_study, accuracy, cheap, go_on, latency, names


def test_failed_params_are_not_proposed_again() -> None:
    study = a_study(ScreenedSampler(seed=0, space=SPACE))
    for i in range(30):
        trial = study.ask(SPACE)
        if i % 3 == 0:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [accuracy(trial.params), latency(trial.params)])
    proposed = names([t.params for t in study.trials])
    assert len(set(proposed)) == len(proposed)


def test_running_trials_are_not_proposed_again() -> None:
    """Workers that ask at once get different params, and not only the nearest neighbours of one point."""
    study = a_study(ScreenedSampler(seed=0, known_objectives=cheap, space=SPACE))
    go_on(study, 20)
    running = [study.ask(SPACE) for _ in range(8)]
    proposed = names([t.params for t in running])
    assert len(set(proposed)) == 8
    assert not set(proposed) & set(names([t.params for t in study.trials[:20]]))
    assert len({t.params["width"] for t in running} | {t.params["depth"] for t in running}) > 3


def test_a_running_trial_counts_before_its_params_are_suggested() -> None:
    sampler = ScreenedSampler(seed=0, space=SPACE)
    study = a_study(sampler)
    go_on(study, 12)
    first = study.ask()
    params = first.relative_params
    assert study.trials[-1].params == {}
    proposed = [study.ask(SPACE).params for _ in range(6)]
    assert names([params])[0] not in names(proposed)


def test_a_new_sampler_for_each_trial_proposes_the_same() -> None:
    whole = go_on(a_study(ScreenedSampler(seed=3, known_objectives=cheap)), 25)
    fresh = a_study(optuna.samplers.RandomSampler())
    assert go_on(fresh, 25, lambda: ScreenedSampler(seed=3, known_objectives=cheap)) == whole
    assert go_on(a_study(ScreenedSampler(seed=4, known_objectives=cheap)), 25) != whole


def test_a_resumed_study_proposes_the_same() -> None:
    whole = a_study(ScreenedSampler(seed=5, known_objectives=cheap))
    go_on(whole, 26)
    half = a_study(ScreenedSampler(seed=5, known_objectives=cheap))
    go_on(half, 13)
    resumed = a_study(ScreenedSampler(seed=5, known_objectives=cheap))
    resumed.add_trials(half.trials)
    go_on(resumed, 13)
    assert [t.params for t in resumed.trials] == [t.params for t in whole.trials]
    assert [t.values for t in resumed.best_trials] == [t.values for t in whole.best_trials]


def test_enqueued_params_are_kept_and_the_others_sampled() -> None:
    study = a_study(ScreenedSampler(seed=0, known_objectives=cheap, space=SPACE))
    go_on(study, 15)
    done = study.trials[3].params
    study.enqueue_trial({n: done[n] for n in ("op", "kernel", "width", "sparsity")})
    trial = study.ask(SPACE)
    assert all(trial.params[n] == done[n] for n in ("op", "kernel", "width", "sparsity"))
    assert trial.params["depth"] != done["depth"]


def test_stored_params_of_a_dead_process_are_kept() -> None:
    study = a_study(ScreenedSampler(seed=0, known_objectives=cheap, space=SPACE))
    go_on(study, 12)
    left = study.ask()
    stored = left.relative_params
    go_on(study, 2)
    again = optuna.trial.Trial(study, left._trial_id)
    assert {n: again._suggest(n, d) for n, d in SPACE.items()} == stored


def test_prior_trials_are_maximised_and_checked() -> None:
    prior = ([{"a": 1, "b": 2}, {"a": 99}], [[5.0, np.nan], [1.0, 1.0]], [[4.0, 3.0], [1.0, 1.0]])
    space: dict[str, BaseDistribution] = {"a": IntDistribution(0, 9), "b": IntDistribution(0, 9)}
    study = optuna.create_study(directions=["maximize", "minimize"])
    found = ScreenedSampler(space=space, prior_trials=lambda: prior)._encode_prior_trials(study, GeneEncoding(space))
    np.testing.assert_array_equal(found.outcomes.values, [[5.0, np.nan]])
    np.testing.assert_array_equal(found.outcomes.low_fidelity_values, [[4.0, -3.0]])
    short = ScreenedSampler(space=space, prior_trials=lambda: prior[:2])._encode_prior_trials(
        study, GeneEncoding(space)
    )
    assert np.isnan(short.outcomes.low_fidelity_values).all()
    wrong = ScreenedSampler(space=space, prior_trials=lambda: (*prior[:2], [[1.0]]))
    with pytest.raises(ValueError, match="low-fidelity values of prior_trials must be an array"):
        wrong._encode_prior_trials(study, GeneEncoding(space))


def test_low_fidelity_attributes_of_a_trial_are_read() -> None:
    space: dict[str, BaseDistribution] = {"a": IntDistribution(0, 9), "b": IntDistribution(0, 9)}
    study = optuna.create_study(directions=["maximize", "minimize"])
    for i in range(4):
        attributes: dict[str, Any] = {} if i == 0 else {"look": [float(i), None], "look_only": i > 1}
        study.add_trial(
            create_trial(params={"a": i, "b": i}, distributions=space, values=[1.0, 2.0], user_attrs=attributes)
        )
    sampler = ScreenedSampler(seed=0, space=space)
    history = sampler._trial_history(study, study.ask()._get_latest_trial(), sampler._cache.table_of(space))
    assert history.outcomes.is_feasible.tolist() == [True, True, False, False]
    assert history.outcomes.is_low_fidelity_only.tolist() == [False, False, True, True]
    assert not history.outcomes.is_infeasible.any()
    np.testing.assert_array_equal(history.outcomes.low_fidelity_values[:, 0], [np.nan, 1.0, 2.0, 3.0])
    assert np.isnan(history.outcomes.values[2:]).all()
