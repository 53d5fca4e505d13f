"""The search benchmarks: scores against closed forms, resuming, low-fidelity rungs."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.samplers import RandomSampler

from benchmarks import _low_fidelity, _nb201, _replays, search_nb201, search_synthetic
from benchmarks._local_search import LocalSearch

CELLS = np.array(np.unravel_index(np.arange(5**6), (5,) * 6)).T
WEIGHTS = np.array([0.0, 0.01, 0.5, 1.0, 0.1])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cells, with accuracy and latency that grow with the operations, and a correlated proxy accuracy."""
    work = WEIGHTS[CELLS].sum(axis=1)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(CELLS, columns=list(_nb201.GENES))
    frame["accuracy"] = 90 + 4 * (1 - np.exp(-work)) + rng.normal(0, 0.2, len(work))
    frame["proxy"] = 60 + 10 * (1 - np.exp(-work)) + rng.normal(0, 0.5, len(work))
    frame["latency"] = 2 + work
    path = tmp_path_factory.mktemp("tables") / "cells.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def table(file: Path) -> _nb201.Nb201Table:
    return _nb201.read_table(file, "accuracy", "latency", "proxy")


def test_the_front_has_the_whole_hypervolume_and_the_worst_corner_none(table: _nb201.Nb201Table) -> None:
    front = [int(np.flatnonzero((table.values == row).all(axis=1))[0]) for row in table.front()]
    assert table.hypervolume_share(front) == pytest.approx(1.0)
    slowest = int(np.nanargmax(table.values[:, 1]))
    assert table.hypervolume_share([slowest]) == 0.0
    assert table.hypervolume_share([]) == 0.0
    assert table.feasible.sum() == 15625 - 341  # cells without a path, as published tables count them


def test_scores_of_evaluated_cells(table: _nb201.Nb201Table) -> None:
    good = int(np.nanargmax(np.where(table.values[:, 1] <= np.quantile(table.values[table.feasible, 1], 0.1),
                                     table.values[:, 0], np.nan)))  # fmt: skip
    broken = int(np.flatnonzero(~table.feasible)[0])
    found = search_nb201.scores(table, [broken, good] + [good] * 48)
    alone = table.hypervolume_share([good])
    assert found["curve"][0] == 0.0
    assert found["share"] == {"25": pytest.approx(alone), "50": pytest.approx(alone)}
    assert found["share_distinct"] == {}  # two cells only
    assert found["regret"]["10%"]["50"] == 0.0
    assert found["regret"]["50%"]["25"] >= 0.0
    assert found["infeasible"] == pytest.approx(1 / 50)


def test_a_candidate_is_promoted_unless_an_earlier_one_is_as_good_in_both() -> None:
    before = [(70.0, 5.0), (80.0, 9.0)]
    assert _low_fidelity.is_promoted([], (10.0, 99.0))
    assert _low_fidelity.is_promoted(before, (75.0, 6.0))
    assert _low_fidelity.is_promoted(before, (60.0, 4.0))
    assert not _low_fidelity.is_promoted(before, (70.0, 5.0))
    assert not _low_fidelity.is_promoted(before, (79.0, 9.5))


def test_costs_are_reported_for_reached_goals(table: _nb201.Nb201Table) -> None:
    front = [int(np.flatnonzero((table.values == row).all(axis=1))[0]) for row in table.front()]
    found = _low_fidelity.summarize(table, [0.06, *(0.06 + 1.06 * i for i in range(1, len(front) + 1))], [None, *front])
    assert found["trained"] == len(front)
    assert found["looks"] == len(front) + 1
    assert found["reached"] == {"0.95": 1.0, "0.98": 1.0, "0.99": 1.0}
    assert found["cost_to_reach"]["0.95"] <= found["cost_to_reach"]["0.99"] <= 0.06 + 1.06 * len(front)
    nothing = _low_fidelity.summarize(table, [0.06], [None])
    assert nothing["cost_to_reach"] == {"0.95": None, "0.98": None, "0.99": None}


def test_every_trial_reaches_the_rung_and_some_are_promoted(table: _nb201.Nb201Table) -> None:
    found = _low_fidelity.run_search(table, RandomSampler(seed=0), trials=60, limit_s=None)
    assert found["looks"] == 60
    assert 0 < found["trained"] < 60


def options(**changed: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{"sampler": "a", "trials": 30, "seeds": 2, "time_limit": None, "json": None, "markdown": False, **changed}
    )


def make_benchmark(played: list[tuple[str, int]], **facts: Any) -> _replays.Benchmark:
    def play(name: str, seed: int) -> dict[str, Any]:
        played.append((name, seed))
        costs = {"trials": 30, "duplicates": 0.0, "seconds_per_trial": 0.1, "slowest_seconds": 0.2}
        return {
            "share": {"25": 0.5 + 0.1 * seed},
            "cost": 3.0 if seed else None,
            "curve": [0.1, 0.2, 0.3 + seed],
            **costs,
        }

    return _replays.Benchmark(
        title="a benchmark", facts={"problem": 1, **facts}, samplers=["a", "b"], replay=play,
        make=lambda name, seed: RandomSampler(seed=seed), columns=((("cost",), "cost", "8.1f"),),
    )  # fmt: skip


def test_means_are_over_seeds_and_common_figures(capsys: pytest.CaptureFixture[str]) -> None:
    result = _replays.compare_samplers(make_benchmark([]), options())
    assert result["samplers"]["a"]["mean"]["share"] == {"25": pytest.approx(0.55)}
    assert result["samplers"]["a"]["mean"]["curve"] == [0.1, 0.2, 0.8]
    assert "cost" not in result["samplers"]["a"]["mean"]
    assert capsys.readouterr().out.splitlines()[-1].split() == ["a", "0.5500", "-"]
    _replays.compare_samplers(make_benchmark([]), options(markdown=True))
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "| sampler | @25 | cost |",
        "|---|---|---|",
        "| a | 0.5500 | - |",
    ]


def test_a_killed_benchmark_resumes(tmp_path: Path) -> None:
    file, played = tmp_path / "new" / "out.json", []
    _replays.compare_samplers(make_benchmark(played), options(json=file, seeds=1))
    _replays.compare_samplers(make_benchmark(played), options(json=file, seeds=3, sampler="all"))
    assert played == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2)]
    _replays.compare_samplers(make_benchmark(played, problem=2), options(json=file, seeds=1))
    assert played[6:] == [("a", 0)]
    assert json.loads(file.read_text())["problem"] == 2


def test_figures_of_other_sampler_code_are_computed_again(tmp_path: Path) -> None:
    file, played = tmp_path / "out.json", []
    bench = make_benchmark(played)
    _replays.compare_samplers(bench, options(json=file, seeds=2))
    other = replace(bench, make=lambda name, seed: LocalSearch({}, seed))
    for _ in range(2):
        _replays.compare_samplers(other, options(json=file, seeds=1))
    assert played == [("a", 0), ("a", 1), ("a", 0)]


def test_an_unknown_sampler_and_a_foreign_file_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--sampler must name some of a, b, but got c"):
        _replays.compare_samplers(make_benchmark([]), options(sampler="a,c"))
    strange = tmp_path / "strange.json"
    strange.write_text("[1, 2]")
    with pytest.raises(SystemExit, match="must hold figures of this benchmark"):
        _replays.compare_samplers(make_benchmark([]), options(json=strange))


def test_a_replay_ends_at_its_time_limit() -> None:
    played = _replays.run_replay(
        RandomSampler(seed=0), _nb201.SPACE, lambda picked: ([1.0, 1.0], None), trials=10**6, limit_s=0.05
    )
    assert 0 < len(played.configurations) < 10**4


def test_the_curve_is_the_share_of_each_prefix(table: _nb201.Nb201Table) -> None:
    cells = np.random.default_rng(3).choice(5**6, size=60)
    expected = [table.hypervolume_share(cells[: i + 1]) for i in range(60)]
    np.testing.assert_allclose(_replays.hypervolume_curve(table.values[cells], table.hypervolume_share_of), expected)


def test_duplicates_are_counted() -> None:
    picks = [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2, "b": 2}, {"a": 1, "b": 2}]
    assert _replays.Replay(configurations=picks, seconds=[0.1] * 4).summary["duplicates"] == 0.5


def test_local_search_changes_one_gene_of_the_archive() -> None:
    def answer(picked: _replays.Configuration) -> tuple[list[float], None]:
        codes = [_nb201.OPERATIONS.index(picked[g]) for g in _nb201.GENES]
        return [float(sum(codes)), float(sum(c > 2 for c in codes))], None

    picks = _replays.run_replay(
        LocalSearch(_nb201.SPACE, 0), _nb201.SPACE, answer, trials=40, limit_s=None
    ).configurations
    for i in range(10, 40):
        assert min(sum(picks[i][g] != old[g] for g in _nb201.GENES) for old in picks[:i]) == 1


def test_the_command_line_of_the_table_benchmark(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    flags = (f"--table {file} --accuracy accuracy --proxy-accuracy proxy --latency latency --sampler screened,random "
             f"--trials 25 --seeds 1 --json {out}")  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["search_nb201", *flags.split()])
    search_nb201.main()
    found = json.loads(out.read_text())
    run = found["samplers"]["screened"]["runs"][0]
    assert run["duplicates"] == 0.0
    assert len(run["curve"]) == 25
    assert run["share"]["25"] == pytest.approx(run["curve"][-1], abs=1e-5)
    assert set(run["regret"]) == {"10%", "25%", "50%"}
    assert run["with_looks"]["looks"] <= 50
    assert "screened" in capsys.readouterr().out


def test_a_synthetic_search_is_scored_without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flat:
        def sampler_context(self) -> dict[str, Any]:
            return {}

        def values(self, picks: Any) -> np.ndarray:
            return np.array([[0.5, 1.0]] * len(picks))

        def hypervolume_share(self, values: np.ndarray) -> float:
            return float((values == [0.5, 1.0]).all()) * 0.7

    monkeypatch.setattr(search_synthetic, "drawn_problem", lambda seed: Flat())
    found = search_synthetic.replay("random", 0, trials=30, limit_s=None)
    assert found["share"] == {"25": 0.7}
    assert found["curve"] == [0.7] * 30
