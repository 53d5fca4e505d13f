"""What is remembered of trials changes nothing of what is asked."""

import gc
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from nas.searcher.acquisition.base import ParamsList
from nas.searcher.acquisition.cache import SamplerCache, TrialRow
from nas.searcher.samplers.screened import ScreenedSampler

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


def asked(trials: int, memory: SamplerCache | None, *, names: Any = None) -> list[dict[str, Any]]:
    """The picks of a search whose every trial is asked by a sampler of its own."""
    study = a_study()
    for i in range(trials):
        sampler = ScreenedSampler(seed=i, space=SPACE, n_startup_trials=4, identity=names, cache=memory)
        tell(study, ask(study, sampler))
    return [trial.params for trial in study.trials]


def test_samplers_that_share_a_memory_ask_what_those_without_ask() -> None:
    assert asked(24, SamplerCache()) == asked(24, None)


def test_the_identity_of_what_was_asked_is_looked_up_once() -> None:
    met: list[tuple[Any, ...]] = []

    def names(picks: ParamsList) -> list[tuple[Any, ...]]:
        met.extend(found := [tuple(sorted(picked.items())) for picked in picks])
        return found

    picks = asked(20, SamplerCache(), names=names)
    of_first = [name for name in met if name == tuple(sorted(picks[0].items()))]
    assert len(of_first) <= 3, "as a candidate, as history, and where a child repeats it; not once for each trial"


def test_a_memory_of_another_space_or_study_is_not_used() -> None:
    memory = SamplerCache()
    asked(8, memory)
    other: dict[str, BaseDistribution] = {"word": CategoricalDistribution(("a", "b", "c")), **SPACE}
    assert memory.table_of(other) is memory.table_of(dict(other))
    assert memory.table_of(SPACE).encoding.names == tuple(SPACE)
    assert asked(8, memory) == asked(8, None)


def test_running_trials_are_read_again_and_finished_ones_are_not() -> None:
    study, rows, new = a_study(), SamplerCache().table_of(SPACE), []

    def look_up(trials: Any) -> list[TrialRow]:
        new.append([trial.number for trial in trials])
        running = [trial.state == optuna.trial.TrialState.RUNNING for trial in trials]
        return [TrialRow(b"", [0.0], [None], is_low_fidelity_only=False, is_running=each) for each in running]

    first, second = (study.ask(SPACE) for _ in range(2))
    tell(study, first)
    for _ in range(2):
        rows.rows_of(study.get_trials(deepcopy=False), look_up)
    tell(study, second)
    for _ in range(2):
        found = rows.rows_of(study.get_trials(deepcopy=False), look_up)
    assert new == [[0, 1], [1], [1], []]
    assert [row.is_running for row in found] == [False, False]


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_left_as_it_was(was_on: bool) -> None:
    def during(picks: ParamsList) -> np.ndarray:
        assert not gc.isenabled()
        return np.full((len(picks), 1 if broken else 2), np.nan)

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
