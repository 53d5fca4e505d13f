"""Promotion: which candidates train on at a rung, now and after a restart, and the results of the first rung."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.config import SearchConfig, make_config
from nas.errors import ConfigError
from nas.evaluation.untrained import UntrainedMetrics
from nas.results.run_folder import RunFolder, with_resumed_fields
from nas.searcher.promotion import RungResults, drop_uninformative_rungs
from tests.fake_runs import a_run, some_latency, some_record

ENERGY = ("accuracy", "latency", "energy")


def results(folder: RunFolder) -> RungResults:
    return RungResults(folder, folder.config.search.objectives)


def is_promoted(
    folder: RunFolder, trial: int, accuracy: float, ms: float, *, rung: int = 1, known: RungResults | None = None
) -> bool:
    """Whether a candidate with these figures is promoted; `known` is None for a process that has just started."""
    metrics = UntrainedMetrics(costs=None, size_bytes=1, latency=some_latency(ms), host_latency=None)  # type: ignore[arg-type]
    candidate = some_record(trial, accuracy, ms).candidate
    return (known or results(folder)).promoter(candidate)(rung, accuracy, metrics)


@pytest.mark.parametrize("objectives", [("accuracy", "latency"), ENERGY])
def test_candidate_that_an_earlier_one_dominates_stops_and_energy_does_not_count(
    tmp_path: Path, objectives: tuple[str, ...]
) -> None:
    folder = a_run(tmp_path, records=[], objectives=objectives)
    figures = [(0.5, 2.0), (0.4, 3.0), (0.6, 4.0)]
    assert [is_promoted(folder, trial, *at) for trial, at in enumerate(figures)] == [True, False, True]
    again = [is_promoted(folder, trial, *figures[trial]) for trial in (1, 0)]
    assert again == [False, True], "the same decisions after a restart"
    assert len(folder.json_lines("rungs.jsonl")) == 3


def test_each_rung_has_its_own_cohort(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    assert is_promoted(folder, 0, 0.9, 1.0)
    assert not is_promoted(folder, 1, 0.5, 2.0)
    assert is_promoted(folder, 1, 0.5, 2.0, rung=2)


DEFAULT = SearchConfig().training.rungs


@pytest.mark.parametrize(
    ("config", "images", "rungs"),
    [
        (make_config(), 28_709, DEFAULT),
        (make_config(), 4_820, (1.0,)),
        (make_config(epochs=6), 4_820, DEFAULT[1:]),
        (make_config(), 3, (1.0,)),
        (make_config(rungs=DEFAULT), 4_820, DEFAULT),  # given by the user
        (make_config(model="mini_xception"), 4_820, DEFAULT),  # starts from trained weights
    ],
)
def test_default_rungs_with_too_few_images_are_dropped(
    config: SearchConfig, images: int, rungs: tuple[float, ...]
) -> None:
    found = drop_uninformative_rungs(config, images)
    assert found.training.rungs == rungs
    assert found.differences(config.with_fields(rungs=rungs)) == []


@pytest.mark.parametrize("before", [DEFAULT, (0.15, 0.4, 1.0)])
def test_resumed_run_keeps_its_rungs_unless_others_are_given(tmp_path: Path, before: tuple[float, ...]) -> None:
    first = a_run(tmp_path, records=[], rungs=before).config
    fields = {name: first.get(name) for name in first.fields_set - {"rungs"}}
    again = with_resumed_fields(drop_uninformative_rungs(make_config(**fields), 4_820))
    assert again.training.rungs == before
    RunFolder.open(again)
    other = with_resumed_fields(drop_uninformative_rungs(make_config(**fields, rungs=(0.5, 1.0)), 4_820))
    with pytest.raises(ConfigError, match="another configuration"):
        RunFolder.open(other)


FIGURES = st.tuples(st.integers(0, 4), st.integers(1, 4))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(FIGURES, min_size=1, max_size=6, unique=True))
def test_no_candidate_is_promoted_that_an_earlier_one_dominates(
    tmp_path_factory: pytest.TempPathFactory, figures: list[tuple[int, int]]
) -> None:
    folder = a_run(tmp_path_factory.mktemp("run"), records=[])
    known = results(folder)
    for trial, (hits, ms) in enumerate(figures):
        is_dominated = any(a >= hits and b <= ms for a, b in figures[:trial])  # no two are equal
        assert is_promoted(folder, trial, hits / 4, float(ms), known=known) != is_dominated


def test_first_rung_accuracy_is_that_of_the_first_rung(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[], objectives=("latency", "accuracy"))
    key = some_record(0, 0.5, 2.0).candidate.key
    known = results(folder)
    assert known.first_rung_accuracy(key) is None
    is_promoted(folder, 0, 0.5, 2.0)
    is_promoted(folder, 0, 0.7, 2.0, rung=2)
    assert known.first_rung_accuracy(key) == 0.5
    assert known.first_rung_accuracies() == {key: 0.5}
