"""What every sampler promises, run over every member found in the folder, through the study as a search uses it."""

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nas import registry
from nas.records import Record, RunFolder
from nas.study import Ask, Study, open_storage
from search_spaces._base import Choice, Value
from tests.fake_runs import a_run, some_record

CHOICES = (
    Choice(name="depth", options=(1, 2, 3)),
    Choice(name="width", options=(8, 16, 24, 32, 40)),
    Choice(name="bits", options=(8, 16, 32)),
    Choice(name="sparsity", options=(0.0, 0.25, 0.5, 0.75)),
    Choice(name="operation", options=("conv", "pool", "skip")),
    Choice(name="only", options=(48,)),
)
OPTIONS = {choice.name: choice.options for choice in CHOICES}
TRIALS = 30
"""More than TPE draws at random first, and than NSGA-II has in its population."""


class Killed(BaseException):
    """What a SIGKILL is to a test in one process."""


def a_study(runs: Path, sampler: str, **fields: Any) -> Study:
    seeds = fields.pop("seeds", ())
    folder = a_run(runs, records=[], sampler=sampler, **fields)
    return Study(folder, folder.config, CHOICES, registry.load("sampler", sampler), seeds=seeds)


def answer(ask: Ask) -> Record:
    """Figures by a formula, so that there is something to learn; wide nets break the limit."""
    picked = {name: float(v) for name, v in ask.picked.items() if not isinstance(v, str)}
    accuracy = 0.3 + 0.1 * picked["depth"] - 0.2 * picked["sparsity"]
    broken = picked["width"] / 32 - 1
    status = "infeasible" if broken > 0 else "complete"
    latency = picked["width"] * picked["depth"] / picked["bits"] + 0.1
    return some_record(ask.number, accuracy, latency, violations={"max_latency": broken}, status=status)


def go_on(study: Study, trials: int) -> list[dict[str, Value]]:
    """The picks of so many trials, each answered."""
    picks = []
    for _ in range(trials):
        with ExitStack() as held:
            ask = study.ask(held)
            study.tell(ask, answer(ask))
            picks.append(ask.picked)
    return picks


def trials_of(folder: RunFolder) -> list[optuna.trial.FrozenTrial]:
    (study,) = optuna.get_all_study_summaries(open_storage(folder.path, None))
    loaded = optuna.load_study(study_name=study.study_name, storage=open_storage(folder.path, None))
    return loaded.get_trials()


@pytest.fixture(scope="module", params=registry.names("sampler"))
def sampler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def study(sampler: str, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study that nothing has disturbed; `picks` are its answered trials."""
    return a_study(tmp_path_factory.mktemp("undisturbed"), sampler)


@pytest.fixture(scope="module")
def picks(study: Study) -> list[dict[str, Value]]:
    return go_on(study, TRIALS)


def test_every_pick_is_one_of_the_options_and_of_their_type(picks: list[dict[str, Value]]) -> None:
    for picked in picks:
        assert list(picked) == list(OPTIONS)
        for name, value in picked.items():
            assert value in OPTIONS[name]
            assert type(value) is type(OPTIONS[name][0])


def test_every_option_is_asked_sooner_or_later(picks: list[dict[str, Value]]) -> None:
    for name, options in OPTIONS.items():
        assert {picked[name] for picked in picks} == set(options)


def test_another_seed_asks_something_else(sampler: str, picks: list[dict[str, Value]], tmp_path: Path) -> None:
    assert go_on(a_study(tmp_path, sampler, seed=1), 5) != picks[:5]


def test_the_same_seed_and_history_ask_the_same_wherever_a_process_died(
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


def test_a_broken_constraint_is_seen_by_optuna(study: Study, picks: list[dict[str, Value]]) -> None:
    wide = [float(picked["width"]) > 32 for picked in picks]
    assert any(wide)
    assert not all(wide)
    found = trials_of(study.folder)
    assert {t.state for t in found} == {TrialState.COMPLETE}
    assert [any(v > 0 for v in t.constraints.values()) for t in found] == wide
    loaded = optuna.load_study(study_name=study.folder.config.run_name, storage=open_storage(study.folder.path, None))
    assert all(t.params["width"] <= 32 for t in loaded.best_trials)


def test_seeds_are_asked_first_and_what_they_leave_out_is_sampled(sampler: str, tmp_path: Path) -> None:
    seeds = ({"depth": 3, "width": 40, "unknown": 1}, {"depth": 1, "operation": "skip"})
    first, second, *others = go_on(a_study(tmp_path, sampler, seeds=seeds), 8)
    assert (first["depth"], first["width"]) == (3, 40)
    assert (second["depth"], second["operation"]) == (1, "skip")
    free = ("bits", "sparsity")
    assert [first[name] for name in free] != [second[name] for name in free], "each has random numbers of its own"
    assert len({(picked["bits"], picked["sparsity"]) for picked in others}) > 2
