"""Rungs: who goes on, asked again or not, and what a sampler is told of the first one."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.config import SearchConfig, make_config
from nas.errors import ConfigError
from nas.evaluation.untrained import UntrainedMetrics
from nas.results.run_folder import RunFolder, with_resumed_fields
from nas.searcher.crash_guard import crash_guard
from nas.searcher.promotion import drop_uninformative_rungs, first_rung_accuracy, promoter
from tests.fake_runs import a_run, some_latency, some_record

ENERGY = ("accuracy", "latency", "energy")


def ask(folder: RunFolder, trial: int, accuracy: float, ms: float, *, rung: int = 1) -> bool:
    """Whether a candidate with these figures goes on."""
    draft = UntrainedMetrics(costs=None, size_bytes=1, latency=some_latency(ms), host_latency=None)  # type: ignore[arg-type]
    candidate = some_record(trial, accuracy, ms).candidate
    with crash_guard(folder, "trial") as made:
        return promoter(folder, folder.config.search.objectives, candidate, made)(rung, accuracy, draft)


@pytest.mark.parametrize("objectives", [("accuracy", "latency"), ENERGY])
def test_who_is_dominated_by_an_earlier_one_stops_and_energy_has_no_say(
    tmp_path: Path, objectives: tuple[str, ...]
) -> None:
    folder = a_run(tmp_path, records=[], objectives=objectives)
    asked = [ask(folder, trial, *at) for trial, at in enumerate([(0.5, 2.0), (0.4, 3.0), (0.6, 4.0)])]
    assert asked == [True, False, True]
    assert [ask(folder, 1, 0.4, 3.0), ask(folder, 0, 0.5, 2.0)] == [False, True], "the same answers again"
    assert len(folder.json_lines("rungs.jsonl")) == 3


def test_each_rung_has_a_cohort_of_its_own(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    assert ask(folder, 0, 0.9, 1.0)
    assert not ask(folder, 1, 0.5, 2.0)
    assert ask(folder, 1, 0.5, 2.0, rung=2)


DEFAULT = SearchConfig().training.rungs


@pytest.mark.parametrize(
    ("config", "images", "rungs"),
    [
        (make_config(), 28_709, DEFAULT),
        (make_config(), 4_820, (1.0,)),
        (make_config(epochs=6), 4_820, DEFAULT[1:]),
        (make_config(), 3, (1.0,)),
        (make_config(rungs=DEFAULT), 4_820, DEFAULT),  # as it was asked for
        (make_config(model="mini_xception"), 4_820, DEFAULT),  # begins with trained weights
    ],
)
def test_default_rungs_that_come_too_early_are_left_out(
    config: SearchConfig, images: int, rungs: tuple[float, ...]
) -> None:
    found = drop_uninformative_rungs(config, images)
    assert found.training.rungs == rungs
    assert found.differences(config.model_copy(update={"rungs": rungs})) == []


@pytest.mark.parametrize("before", [DEFAULT, (0.15, 0.4, 1.0)])
def test_a_run_keeps_its_rungs_where_nobody_gives_others(tmp_path: Path, before: tuple[float, ...]) -> None:
    begun = a_run(tmp_path, records=[], rungs=before).config
    fields = {name: getattr(begun, name) for name in begun.model_fields_set - {"rungs"}}
    again = with_resumed_fields(drop_uninformative_rungs(make_config(**fields), 4_820))
    assert again.training.rungs == before
    RunFolder.open(again)
    other = with_resumed_fields(drop_uninformative_rungs(make_config(**fields, rungs=(0.5, 1.0)), 4_820))
    with pytest.raises(ConfigError, match="another configuration"):
        RunFolder.open(other)


FIGURES = st.tuples(st.integers(0, 4), st.integers(1, 4))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(FIGURES, min_size=1, max_size=6, unique=True))
def test_nobody_goes_on_whom_an_earlier_one_betters(
    tmp_path_factory: pytest.TempPathFactory, figures: list[tuple[int, int]]
) -> None:
    folder = a_run(tmp_path_factory.mktemp("run"), records=[])
    for trial, (hits, ms) in enumerate(figures):
        bettered = any(a >= hits and b <= ms for a, b in figures[:trial])  # no two are equal
        assert ask(folder, trial, hits / 4, float(ms)) != bettered


def test_the_first_rung_is_told_where_accuracy_is_judged(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[], objectives=("latency", "accuracy"))
    key = some_record(0, 0.5, 2.0).candidate.key
    assert first_rung_accuracy(folder, folder.config.search.objectives, key) is None
    ask(folder, 0, 0.5, 2.0)
    ask(folder, 0, 0.7, 2.0, rung=2)
    assert first_rung_accuracy(folder, folder.config.search.objectives, key) == 0.5
