"""Sampler cache: it changes no proposal, and computes each finished trial once."""

import gc
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import create_trial

from nas.searcher.acquisition.base import ParamsList
from nas.searcher.acquisition.cache import SamplerCache, TrialRow
from nas.searcher.samplers.screened import N_CHECKED_IDENTITIES, ScreenedSampler

SPACE: dict[str, BaseDistribution] = {f"g{i}": IntDistribution(0, 5) for i in range(6)}


def a_study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=["maximize", "minimize"])


def ask(study: optuna.Study, sampler: ScreenedSampler) -> optuna.Trial:
    study.sampler = sampler
    return study.ask(SPACE)


def tell(study: optuna.Study, trial: optuna.Trial) -> None:
    numbers = np.array(list(trial.params.values()))
    study.tell(trial, [float(numbers[:3].sum() - numbers[3] * numbers[4]), float(numbers.sum())])


def proposals(trials: int, cache: SamplerCache | None, *, identity: Any = None) -> list[dict[str, Any]]:
    """Params of a search that makes a new sampler for each trial."""
    study = a_study()
    for i in range(trials):
        sampler = ScreenedSampler(seed=i, space=SPACE, n_startup_trials=4, identity=identity, cache=cache)
        tell(study, ask(study, sampler))
    return [trial.params for trial in study.trials]


def test_a_shared_cache_changes_no_proposal() -> None:
    assert proposals(24, SamplerCache()) == proposals(24, None)


def test_identities_of_the_history_are_computed_once() -> None:
    met: list[tuple[Any, ...]] = []

    def identity(params_list: ParamsList) -> list[tuple[Any, ...]]:
        met.extend(found := [tuple(sorted(params.items())) for params in params_list])
        return found

    proposed = proposals(20, SamplerCache(), identity=identity)
    of_first = [name for name in met if name == tuple(sorted(proposed[0].items()))]
    assert len(of_first) <= 3, "as a candidate, in the history, and as a duplicate child; not once for each trial"


@pytest.mark.parametrize("is_outdated", [False, True])
def test_identities_that_a_search_stored_are_taken_unless_outdated(*, is_outdated: bool) -> None:
    asked: list[tuple[Any, ...]] = []

    def identity(params_list: ParamsList) -> list[tuple[Any, ...]]:
        asked.extend(found := [tuple(params.values()) for params in params_list])
        return found

    study, rng = a_study(), np.random.default_rng(0)
    for i in range(60):
        params = {name: int(rng.integers(6)) for name in SPACE}
        key = tuple(params.values()) if not is_outdated else ("of", "another", "version", i)
        study.add_trial(
            create_trial(params=params, distributions=SPACE, values=[float(i), 1.0], user_attrs={"key": key})
        )
    sampler = ScreenedSampler(seed=0, space=SPACE, identity=identity)
    table = sampler._cache.table_of(SPACE)
    history = sampler._trial_history(study, study.ask()._get_latest_trial(), table)
    assert len(asked) == N_CHECKED_IDENTITIES
    found = table.identities_of(history.codes, lambda codes: table.encoding.identities(codes, identity))
    assert found == {tuple(trial.params.values()) for trial in study.trials[:60]}
    assert len(asked) == N_CHECKED_IDENTITIES + 60 * is_outdated


def test_a_cache_of_another_space_or_study_is_not_used() -> None:
    cache = SamplerCache()
    proposals(8, cache)
    other: dict[str, BaseDistribution] = {"word": CategoricalDistribution(("a", "b", "c")), **SPACE}
    assert cache.table_of(other) is cache.table_of(dict(other))
    assert cache.table_of(SPACE).encoding.names == tuple(SPACE)
    assert proposals(8, cache) == proposals(8, None)


def test_rows_of_running_trials_are_made_again() -> None:
    study, rows, new = a_study(), SamplerCache().table_of(SPACE), []

    def make_rows(trials: Any) -> list[TrialRow]:
        new.append([trial.number for trial in trials])
        running = [trial.state == optuna.trial.TrialState.RUNNING for trial in trials]
        return [TrialRow(b"", [0.0], [None], is_low_fidelity_only=False, is_running=each) for each in running]

    first, second = (study.ask(SPACE) for _ in range(2))
    tell(study, first)
    for _ in range(2):
        rows.rows_of(study.get_trials(deepcopy=False), make_rows)
    tell(study, second)
    for _ in range(2):
        found = rows.rows_of(study.get_trials(deepcopy=False), make_rows)
    assert new == [[0, 1], [1], [1], []]
    assert [row.is_running for row in found] == [False, False]


def test_settled_trials_are_those_of_the_same_study() -> None:
    def make_rows(trials: Any) -> list[TrialRow]:
        return [
            TrialRow(
                np.array([*t.params.values()]).tobytes(), t.values or [0.0, 0.0], [None, None],
                is_low_fidelity_only=False, is_running=not t.state.is_finished(),
            )
            for t in trials
        ]  # fmt: skip

    def codes_of(study: optuna.Study) -> list[list[int]]:
        trials = study.get_trials(deepcopy=False)
        columns = table.columns_of(trials, make_rows, is_used=lambda _: True, n_objectives=2)
        assert columns.is_running.tolist() == [not t.state.is_finished() for t in trials]
        return columns.codes.tolist()

    table = SamplerCache().table_of(SPACE)
    studies = [a_study(), a_study()]
    for n in range(1, 4):
        for study in studies:
            trials = [study.ask(SPACE) for _ in range(2)]
            tell(study, trials[n % 2])  # one stays running, before or behind the other
            assert codes_of(study) == [[*t.params.values()] for t in study.trials]
            assert len(study.trials) == 2 * n
    tell(studies[1], optuna.trial.Trial(studies[1], studies[1].trials[0]._trial_id))
    assert codes_of(studies[1]) == [[*t.params.values()] for t in studies[1].trials]


@pytest.mark.parametrize("was_on", [True, False])
def test_the_garbage_collector_is_restored(was_on: bool) -> None:
    def during(params_list: ParamsList) -> np.ndarray:
        assert not gc.isenabled()
        return np.full((len(params_list), 1 if broken else 2), np.nan)

    broken = False
    study, sampler = a_study(), ScreenedSampler(seed=0, space=SPACE, known_objectives=during)
    try:
        if not was_on:
            gc.disable()
        tell(study, ask(study, sampler))
        assert gc.isenabled() == was_on
        broken = True
        with pytest.raises(ValueError, match="known_objectives must be an array"):
            ask(study, sampler)
        assert gc.isenabled() == was_on
    finally:
        gc.enable()
