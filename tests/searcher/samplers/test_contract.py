"""Contract of samplers, run over every member of the family through the study that a search uses."""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from nas import registry
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.acquisition.base import EMPTY_CONTEXT, SamplerContext
from nas.searcher.study import AskedTrial, Study
from search_spaces._base import Choice, Value
from tests.fake_runs import a_run, some_record
from tests.journal import study_of, trials_of

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


class Killed(BaseException):
    """Stands for a SIGKILL within one process."""


def a_study(runs: Path, sampler: str, known: SamplerContext = EMPTY_CONTEXT, **fields: Any) -> Study:
    seeds = fields.pop("seeds", ())
    folder = a_run(runs, records=[], sampler=sampler, **fields)
    return Study(folder, folder.config, CHOICES, registry.load("sampler", sampler), initial_picks=seeds, context=known)


def latency(picked: Mapping[str, Any]) -> float:
    return float(picked["width"]) * float(picked["depth"]) / float(picked["bits"]) + 0.1


KNOWN = SamplerContext(
    known_objectives=lambda picks: [[np.nan, latency(p)] for p in picks],
    log_std=lambda picks: [[0.0, 0.1] for _ in picks],
    feasibility=lambda picks: [float(p["width"] <= 32) for p in picks],
    features=lambda picks: [[float(p["depth"]) * float(p["width"])] for p in picks],
    allowed=lambda picks: [p["operation"] != "skip" or p["depth"] < 3 for p in picks],
    identity=lambda picks: [
        tuple(p[n] for n in sorted(p) if n != "sparsity" or p["operation"] == "conv") for p in picks
    ],
    prior_trials=lambda: ([{**FIRST, "depth": d} for d in (1, 2, 3)], [[0.3 + 0.1 * d, np.nan] for d in (1, 2, 3)]),
)
"""A context with every function."""


def answer(ask: AskedTrial) -> Record:
    """A record by formula, in which wide networks break the limit."""
    picked = {name: float(v) for name, v in ask.picked.items() if not isinstance(v, str)}
    accuracy = 0.3 + 0.1 * picked["depth"] - 0.2 * picked["sparsity"]
    broken = picked["width"] / 32 - 1
    status = "infeasible" if broken > 0 else "complete"
    return some_record(ask.number, accuracy, latency(ask.picked), violations={"max_latency": broken}, status=status)


def go_on(study: Study, trials: int) -> list[dict[str, Value]]:
    """The params of so many trials, each finished."""
    picks = []
    for _ in range(trials):
        with ExitStack() as held:
            ask = study.ask(held)
            study.tell(ask, answer(ask))
            picks.append(ask.picked)
    return picks


@pytest.fixture(scope="module", params=registry.names("sampler"))
def sampler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def study(sampler: str, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """An undisturbed study; `picks` are the params of its finished trials."""
    return a_study(tmp_path_factory.mktemp("undisturbed"), sampler)


@pytest.fixture(scope="module")
def picks(study: Study) -> list[dict[str, Value]]:
    return go_on(study, TRIALS)


def test_every_value_is_an_option_of_the_right_type(picks: list[dict[str, Value]]) -> None:
    for picked in picks:
        assert list(picked) == list(OPTIONS)
        for name, value in picked.items():
            assert value in OPTIONS[name]
            assert type(value) is type(OPTIONS[name][0])


def test_every_option_is_proposed_eventually(picks: list[dict[str, Value]]) -> None:
    for name, options in OPTIONS.items():
        assert {picked[name] for picked in picks} == set(options)


def test_another_seed_gives_other_proposals(sampler: str, picks: list[dict[str, Value]], tmp_path: Path) -> None:
    assert go_on(a_study(tmp_path, sampler, seed=1), 5) != picks[:5]


def test_the_same_seed_and_history_give_the_same_proposals_wherever_a_process_died(
    sampler: str, picks: list[dict[str, Value]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, suggest = [], Study._suggest
    for number in range(TRIALS):
        study, left = a_study(tmp_path, sampler), number % (len(CHOICES) + 1)

        def dies(self: Study, trial: optuna.Trial, name: str, left: int = left) -> Value:
            if list(OPTIONS).index(name) >= left:
                raise Killed
            return suggest(self, trial, name)

        with monkeypatch.context() as patch, ExitStack() as held:
            patch.setattr(Study, "_suggest", dies)
            with suppress(Killed):
                study.ask(held)
        asked += go_on(a_study(tmp_path, sampler), 1)
    assert asked == picks
    assert [t.number for t in trials_of(RunFolder(study.folder.path))] == list(range(TRIALS))


def test_optuna_knows_broken_constraints(study: Study, picks: list[dict[str, Value]]) -> None:
    wide = [float(picked["width"]) > 32 for picked in picks]
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
    assert len({(picked["bits"], picked["sparsity"]) for picked in others}) > 2


def test_promises_hold_with_a_context(sampler: str, tmp_path: Path) -> None:
    """With a context too, values are options and proposals repeat after a change of process."""
    whole = go_on(a_study(tmp_path / "whole", sampler, KNOWN), 18)
    halves = [*go_on(a_study(tmp_path / "halves", sampler, KNOWN), 11)]
    halves += go_on(a_study(tmp_path / "halves", sampler, KNOWN), 7)
    assert halves == whole
    assert all(value in OPTIONS[name] for picked in whole for name, value in picked.items())


def test_workers_that_ask_at_once_get_different_trials(sampler: str, tmp_path: Path) -> None:
    first, second = (a_study(tmp_path, sampler, KNOWN) for _ in range(2))
    for turn in range(8):
        with ExitStack() as held:
            asks = [first.ask(held), second.ask(held)]
            assert [ask.number for ask in asks] == [2 * turn, 2 * turn + 1]
            assert asks[0].picked != asks[1].picked
            for study, ask in zip((second, first), reversed(asks), strict=True):
                study.tell(ask, answer(ask))
    assert {t.state for t in trials_of(first.folder)} == {TrialState.COMPLETE}
