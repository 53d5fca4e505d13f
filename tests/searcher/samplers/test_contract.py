"""Contract of samplers, run over every member of the family through the study that a search uses."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from nas import registry
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.acquisition.base import EMPTY_CONTEXT, SamplerContext
from nas.searcher.assembly import make_study
from nas.searcher.pending_trial import PendingTrial
from nas.searcher.study import AskedTrial, Study
from search_spaces._base import Choice, Value
from tests.fake_runs import a_run, some_record
from tests.journal import study_of, trials_of
from tests.tiny_search import Killed, after

CHOICES = (
    Choice(name="depth", options=(1, 2, 3)),
    Choice(name="width", options=(8, 16, 24, 32, 40)),
    Choice(name="bits", options=(8, 16, 32)),
    Choice(name="sparsity", options=(0.0, 0.25, 0.5, 0.75)),
    Choice(name="operation", options=("conv", "pool", "skip")),
    Choice(name="only", options=(48,)),
)
OPTIONS = {choice.name: choice.options for choice in CHOICES}
FIRST = {choice.name: choice.options[0] for choice in CHOICES}
TRIALS = 30
"""More than TPE draws at random first, and than NSGA-II has in its population."""


def a_study(runs: Path, sampler: str, context: SamplerContext = EMPTY_CONTEXT, **fields: Any) -> Study:
    seeds = fields.pop("seeds", ())
    folder = a_run(runs, records=[], sampler=sampler, **fields)
    make_sampler = registry.load("sampler", sampler)
    return make_study(folder, folder.config, CHOICES, make_sampler, initial_picks=seeds, context=context)


def latency(params: Mapping[str, Any]) -> float:
    return float(params["width"]) * float(params["depth"]) / float(params["bits"]) + 0.1


CONTEXT = SamplerContext(
    known_objectives=lambda params_list: [[np.nan, latency(p)] for p in params_list],
    log_std=lambda params_list: [[0.0, 0.1] for _ in params_list],
    feasibility=lambda params_list: [float(p["width"] <= 32) for p in params_list],
    features=lambda params_list: [[float(p["depth"]) * float(p["width"])] for p in params_list],
    allowed=lambda params_list: [p["operation"] != "skip" or p["depth"] < 3 for p in params_list],
    identity=lambda params_list: [
        tuple(p[n] for n in sorted(p) if n != "sparsity" or p["operation"] == "conv") for p in params_list
    ],
    prior_trials=lambda: ([{**FIRST, "depth": d} for d in (1, 2, 3)], [[0.3 + 0.1 * d, np.nan] for d in (1, 2, 3)]),
)
"""A context with every function."""


def answer(ask: AskedTrial) -> Record:
    """A record by formula, in which wide networks break the limit."""
    params = {name: float(v) for name, v in ask.picked.items() if not isinstance(v, str)}
    accuracy = 0.3 + 0.1 * params["depth"] - 0.2 * params["sparsity"]
    broken = params["width"] / 32 - 1
    status = "infeasible" if broken > 0 else "complete"
    return some_record(ask.number, accuracy, latency(ask.picked), violations={"max_latency": broken}, status=status)


def go_on(study: Study, trials: int) -> list[dict[str, Value]]:
    """The params of so many trials, each finished."""
    proposals = []
    for _ in range(trials):
        ask = study.ask()
        study.tell(ask, answer(ask))
        proposals.append(ask.picked)
    return proposals


DEATHS = ("sample_relative", "sample_independent", "create", "left")
"""Steps of an ask that a driver dies at; "left" dies after it."""


@pytest.fixture(scope="module", params=registry.names("sampler"))
def sampler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def study(sampler: str, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """An undisturbed study; `proposals` are the params of its finished trials."""
    return a_study(tmp_path_factory.mktemp("undisturbed"), sampler)


@pytest.fixture(scope="module")
def proposals(study: Study) -> list[dict[str, Value]]:
    return go_on(study, TRIALS)


def test_every_value_is_an_option_of_the_right_type(proposals: list[dict[str, Value]]) -> None:
    for params in proposals:
        assert list(params) == list(OPTIONS)
        for name, value in params.items():
            assert value in OPTIONS[name]
            assert type(value) is type(OPTIONS[name][0])


def test_every_option_is_proposed_eventually(proposals: list[dict[str, Value]]) -> None:
    for name, options in OPTIONS.items():
        assert {params[name] for params in proposals} == set(options)


def test_another_seed_gives_other_proposals(sampler: str, proposals: list[dict[str, Value]], tmp_path: Path) -> None:
    assert go_on(a_study(tmp_path, sampler, seed=1), 5) != proposals[:5]


def test_the_same_seed_and_history_give_the_same_proposals_wherever_a_process_died(
    sampler: str, proposals: list[dict[str, Value]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposed: list[dict[str, Value]] = []
    for number in range(TRIALS):
        study, step = a_study(tmp_path, sampler), DEATHS[number % len(DEATHS)]
        asked = None
        with monkeypatch.context() as patch, suppress(Killed):
            if step == "create":
                patch.setattr(PendingTrial, "create", after(0, PendingTrial.create))
            elif step != "left":
                kind = type(study._sampler(0))
                patch.setattr(kind, step, after(0, getattr(kind, step)))
            asked = study.ask()
        again = a_study(tmp_path, sampler)
        ask = again.left()[0] if asked is not None else again.ask()
        again.tell(ask, answer(ask))
        proposed.append(ask.picked)
    assert proposed == proposals
    assert [t.number for t in trials_of(RunFolder(study.folder.path))] == list(range(TRIALS))


def test_optuna_knows_broken_constraints(study: Study, proposals: list[dict[str, Value]]) -> None:
    wide = [float(params["width"]) > 32 for params in proposals]
    assert any(wide)
    assert not all(wide)
    found = trials_of(study.folder)
    assert {t.state for t in found} == {TrialState.COMPLETE}
    assert [any(v > 0 for v in t.constraints.values()) for t in found] == wide
    assert all(t.params["width"] <= 32 for t in study_of(study.folder).best_trials)


def test_initial_configurations_come_first_and_missing_genes_are_sampled(sampler: str, tmp_path: Path) -> None:
    seeds = ({"depth": 3, "width": 40, "unknown": 1}, {"depth": 1, "operation": "skip"})
    first, second, *others = go_on(a_study(tmp_path, sampler, seeds=seeds), 8)
    assert (first["depth"], first["width"]) == (3, 40)
    assert (second["depth"], second["operation"]) == (1, "skip")
    free = ("bits", "sparsity")
    assert [first[name] for name in free] != [second[name] for name in free], "each trial has its own random numbers"
    assert len({(params["bits"], params["sparsity"]) for params in others}) > 2


def test_promises_hold_with_a_context(sampler: str, tmp_path: Path) -> None:
    """With a context too, values are options and proposals repeat after a change of process."""
    whole = go_on(a_study(tmp_path / "whole", sampler, CONTEXT), 18)
    halves = [*go_on(a_study(tmp_path / "halves", sampler, CONTEXT), 11)]
    halves += go_on(a_study(tmp_path / "halves", sampler, CONTEXT), 7)
    assert halves == whole
    assert all(value in OPTIONS[name] for params in whole for name, value in params.items())


def test_trials_that_run_at_once_are_different(sampler: str, tmp_path: Path) -> None:
    study = a_study(tmp_path, sampler, CONTEXT)
    for turn in range(8):
        asks = [study.ask(), study.ask()]
        assert [ask.number for ask in asks] == [2 * turn, 2 * turn + 1]
        assert asks[0].picked != asks[1].picked
        for ask in reversed(asks):
            study.tell(ask, answer(ask))
    assert {t.state for t in trials_of(study.folder)} == {TrialState.COMPLETE}
