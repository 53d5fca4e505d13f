"""Search surrogate: costs, feasibility, identities and features of candidates before their evaluation."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas import registry
from nas.compression.pipeline import CompressionPipeline
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.acquisition.base import SamplerContext
from nas.searcher.acquisition.candidate_features import COST_COLUMNS
from nas.searcher.acquisition.surrogate import SearchSurrogate
from nas.searcher.assembly import make_study
from nas.searcher.study import AskedTrial, Study
from nas.targets.catalog import load_target
from search_spaces._base import Choice, DisconnectedError, Value
from tests.fake_runs import a_run, some_latency, some_record

PROFILE = load_target("jetson")
Params = dict[str, Value]


class Bench:
    """A run of a real space, whose candidates have costs and accuracies by formula."""

    def __init__(self, runs: Path, space: str = "plain", **fields: Any) -> None:
        self.folder = a_run(runs, records=[], space=space, **fields)
        self.config = self.folder.config
        self.space = registry.load("space", space)
        members = [registry.load("compressor", name) for name in self.config.compression.compressors]
        self.compression = CompressionPipeline(compressors=members, profile=PROFILE)
        own = self.space.choices(channel_multiple=PROFILE.channel_multiple)
        self.genes: list[Choice] = [*own, *self.compression.choices(self.space.stages)]
        self.surrogate = self.a_surrogate()

    def a_surrogate(self, **more: Any) -> SearchSurrogate:
        return SearchSurrogate(
            self.folder, self.config, space=self.space, compression=self.compression, genes=self.genes,
            input_shape=(1, 48, 48), classes=7, **more,
        )  # fmt: skip

    def a_study(self, known: SamplerContext | None = None, **more: Any) -> Study:
        known = known or self.surrogate.sampler_context()
        make_sampler = registry.load("sampler", "screened")
        return make_study(self.folder, self.config, self.genes, make_sampler, context=known, **more)

    def some_params(self, rng: np.random.Generator) -> Params:
        return {gene.name: gene.options[int(rng.integers(len(gene.options)))] for gene in self.genes}

    def costs(self, params: Params) -> tuple[float, int]:
        """Milliseconds and bytes by other coefficients than the initial ones of the cost model."""
        candidate = self.compression.decode(self.space, params)
        columns = dict(zip(COST_COLUMNS, self.surrogate.decode_all([params])[0].features.cost_columns, strict=True))  # type: ignore[union-attr]
        kernels = sum(v for n, v in columns.items() if n.rstrip("0123456789") in ("dense", "pointwise", "moving"))
        macs = sum(v * int(n[-2:].lstrip("s")) for n, v in columns.items() if "macs" in n)
        weights = sum(v for n, v in columns.items() if n.startswith("weights"))
        slow = 1.3 if candidate.architecture["activation"] == "hard_swish" else 1.0
        return slow * (0.02 + 0.01 * kernels + 4e-9 * macs), int(2 * weights + 700 * kernels + 5000)

    def record(self, number: int, params: Params) -> Record:
        candidate = self.compression.decode(self.space, params)
        latency, size = self.costs(params)
        limit = self.config.limits.max_latency or np.inf
        wide = float(np.log2(sum(candidate.pruned.values())))
        found = some_record(
            number, min(0.95, 0.2 + 0.05 * wide), latency, size_bytes=size,
            violations={"max_latency": latency / limit - 1}, status="complete" if latency <= limit else "infeasible",
        )  # fmt: skip
        return Record(**{**found.__dict__, "candidate": candidate, "key": candidate.key})

    def answer(self, ask: AskedTrial) -> Record | None:
        try:
            record = self.record(ask.number, ask.picked)
        except DisconnectedError:
            return None
        self.folder.append(record)
        return record

    def go_on(self, study: Study, trials: int) -> list[Record]:
        found = []
        for _ in range(trials):
            ask = study.ask()
            record = self.answer(ask)
            if record is None:
                study.fail(ask, "no path")
            else:
                study.tell(ask, record)
                found.append(record)
        return found


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, objectives=("accuracy", "latency", "size"), max_latency=None)


def test_params_of_one_candidate_have_one_identity(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    params = bench.some_params(rng) | {"stage4.depth": 0}
    same = params | {"stage4.width": 8 if params["stage4.width"] != 8 else 16}
    other = params | {"stage1.width": 8 if params["stage1.width"] != 8 else 16}
    names = bench.surrogate.identities([params, same, other])
    assert names[0] == names[1] != names[2]
    assert names[0] == bench.compression.decode(bench.space, params).key


def test_params_without_a_path_are_not_allowed_and_are_their_own_identity(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "darts")
    dead = bench.some_params(np.random.default_rng(0)) | {g.name: "none" for g in bench.genes if ".op_" in g.name}
    other = dead | {"width": 8 if dead["width"] != 8 else 16}
    known = bench.surrogate.sampler_context()
    assert known.allowed is not None
    assert list(known.allowed([dead])) == [False]
    assert len(set(bench.surrogate.identities([dead, other]))) == 2
    assert not bench.surrogate.features([dead]).any()


def test_costs_are_exact_once_measured_and_predicted_for_others(bench: Bench) -> None:
    rng = np.random.default_rng(1)
    params_list = [bench.some_params(rng) for _ in range(160)]
    truth = np.array([bench.costs(p) for p in params_list])
    known = bench.surrogate.sampler_context()
    assert known.known_objectives is not None
    assert known.log_std is not None
    before = np.asarray(known.log_std(params_list))[:, 1].mean()
    for number, params in enumerate(params_list[:60]):
        bench.folder.append(bench.record(number, params))
    known_values, log_std = np.asarray(known.known_objectives(params_list)), np.asarray(known.log_std(params_list))
    assert np.isnan(known_values[:, 0]).all()
    np.testing.assert_allclose(known_values[:60, 1:], truth[:60])
    assert not log_std[:60, 1:].any()
    errors = np.log(known_values[60:, 1:] / truth[60:])
    assert np.median(np.abs(errors), axis=0) == pytest.approx([0, 0], abs=0.07)
    assert log_std[60:, 1].mean() < 0.3 * before
    inside = np.abs(errors[:, 0]) < 2 * log_std[60:, 1]
    assert inside.mean() > 0.8


def test_the_latency_of_a_busy_machine_is_corrected_for_load(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_latency="0.2ms")
    params = bench.some_params(np.random.default_rng(4))
    record = bench.record(0, params)
    assert record.latency is not None
    bench.folder.append(replace(record, latency=replace(record.latency, latency_ms=0.23, slowdown=0.25)))
    known = bench.surrogate.sampler_context()
    assert known.known_objectives is not None
    assert known.feasibility is not None
    assert np.asarray(known.known_objectives([params]))[0, 1] == pytest.approx(0.23 / 1.25)
    assert list(known.feasibility([params])) == [1.0]


def test_feasibility_is_exact_once_measured_and_predicted_for_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_latency="0.2ms")
    rng = np.random.default_rng(2)
    params_list = [bench.some_params(rng) for _ in range(140)]
    for number, params in enumerate(params_list[:60]):
        bench.folder.append(bench.record(number, params))
    kept = np.array([bench.costs(p)[0] <= 0.2 for p in params_list])
    chance = bench.surrogate.feasibility(params_list)
    assert chance[:60].tolist() == kept[:60].astype(float).tolist()
    assert 0 < kept.mean() < 1
    assert ((chance[60:] > 0.5) == kept[60:]).mean() > 0.9
    assert ((chance[60:] > 0) & (chance[60:] < 1)).any()


def test_a_limit_on_memory_is_learned_and_exact_once_known(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_latency=None, max_memory="40kB")
    rng = np.random.default_rng(3)
    params_list = [bench.some_params(rng) for _ in range(140)]
    sizes = [bench.costs(p)[1] for p in params_list]
    limit = float(np.median(sizes))
    bench.config = bench.config.with_fields(max_memory=limit)
    bench.surrogate = bench.a_surrogate()
    for number, params in enumerate(params_list[:60]):
        bench.folder.append(replace(bench.record(number, params), memory_bytes=sizes[number]))
    kept = np.array([size <= limit for size in sizes])
    chance = bench.surrogate.feasibility(params_list)
    assert chance[:60].tolist() == kept[:60].astype(float).tolist()
    assert ((chance[60:] > 0.5) == kept[60:]).mean() > 0.85


def test_a_search_has_no_duplicates_and_soon_keeps_the_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_latency="0.12ms")
    records = bench.go_on(bench.a_study(), 24)
    assert len({r.key for r in records}) == len(records)
    chance = np.mean([bench.costs(bench.some_params(np.random.default_rng(i)))[0] <= 0.12 for i in range(100)])
    kept = np.mean([r.status == "complete" for r in records[10:]])
    assert chance < 0.4
    assert kept > 0.8


def test_the_same_records_give_the_same_proposals_in_any_process(tmp_path: Path) -> None:
    whole = Bench(tmp_path / "whole")
    whole.go_on(whole.a_study(), 13)
    halves = Bench(tmp_path / "halves")
    halves.go_on(halves.a_study(), 11)
    halves.go_on(halves.a_study(halves.a_surrogate().sampler_context()), 2)
    assert [r.key for r in halves.folder.records()] == [r.key for r in whole.folder.records()]


def test_params_in_use_stay_in_the_cache(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.searcher.acquisition.surrogate.MAX_CACHED_PARAMS", 4)
    rng = np.random.default_rng(6)
    kept = bench.some_params(rng)
    first = bench.surrogate.decode_all([kept])[0]
    for _ in range(12):
        bench.surrogate.decode_all([bench.some_params(rng), kept])
    assert bench.surrogate.decode_all([kept])[0] is first
    assert len(bench.surrogate._recent_params) + len(bench.surrogate._older_params) <= 2 * (4 + 2)


def test_cached_estimates_follow_new_records_and_a_grown_list(bench: Bench) -> None:
    rng = np.random.default_rng(7)
    known = bench.surrogate.sampler_context()
    assert known.known_objectives is not None
    params_list = [bench.some_params(rng)]
    before = np.asarray(known.known_objectives(params_list))
    bench.folder.append(bench.record(0, params_list[0]))
    assert np.asarray(known.known_objectives(params_list))[0, 1] == bench.costs(params_list[0])[0] != before[0, 1]
    params_list.append(bench.some_params(rng))
    assert np.asarray(known.known_objectives(params_list)).shape == (2, 3)


def test_records_of_another_worker_are_read_at_once(bench: Bench) -> None:
    params = bench.some_params(np.random.default_rng(3))
    known = bench.surrogate.sampler_context()
    assert known.known_objectives is not None
    predicted = np.asarray(known.known_objectives([params]))[0, 1]
    RunFolder(bench.folder.path).append(bench.record(0, params))
    assert np.asarray(known.known_objectives([params]))[0, 1] == bench.costs(params)[0] != predicted


def test_prior_trials_receive_this_runs_search_records_only(bench: Bench) -> None:
    rng = np.random.default_rng(5)
    earlier, mine, whole = (bench.record(i, bench.some_params(rng)) for i in range(3))
    received: list[list[str]] = []

    def prior_trials(own: Sequence[Record]) -> tuple[list[Params], Any]:
        received.append([r.key for r in own])
        return [], np.empty((0, 3))

    known = bench.a_surrogate(prior_records=[earlier], prior_trials=prior_trials).sampler_context()
    bench.folder.append(Record(**{**whole.__dict__, "phase": "base"}))
    bench.folder.append(mine)
    assert known.prior_trials is not None
    known.prior_trials()
    assert received == [[mine.key]]


def test_verified_records_are_ignored(bench: Bench) -> None:
    params = bench.some_params(np.random.default_rng(4))
    record = bench.record(0, params)
    bench.folder.append(record)
    again = {**record.__dict__, "phase": "verified", "latency": some_latency(99.0)}
    bench.folder.append(Record(**again))
    known = bench.surrogate.sampler_context()
    assert known.known_objectives is not None
    assert np.asarray(known.known_objectives([params]))[0, 1] == bench.costs(params)[0]
