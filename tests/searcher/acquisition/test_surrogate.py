"""What a search knows of picks before it evaluates them, and that its sampler uses it."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
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
from nas.searcher.study import AskedTrial, Study
from nas.targets.catalog import load_target
from search_spaces._base import Choice, DisconnectedError, Value
from tests.fake_runs import a_run, some_latency, some_record

PROFILE = load_target("jetson")
Picked = dict[str, Value]


class Bench:
    """A run of a real space, whose candidates are answered by formula."""

    def __init__(self, runs: Path, space: str = "plain", **fields: Any) -> None:
        self.folder = a_run(runs, records=[], space=space, **fields)
        self.config = self.folder.config
        self.space = registry.load("space", space)
        members = [registry.load("compressor", name) for name in self.config.compression.compressors]
        self.compression = CompressionPipeline(compressors=members, profile=PROFILE)
        own = self.space.choices(channel_multiple=PROFILE.channel_multiple)
        self.genes: list[Choice] = [*own, *self.compression.choices(self.space.stages)]
        self.foresight = self.a_foresight()

    def a_foresight(self, **more: Any) -> SearchSurrogate:
        return SearchSurrogate(
            self.folder, self.config, space=self.space, compression=self.compression, genes=self.genes,
            input_shape=(1, 48, 48), classes=7, **more,
        )  # fmt: skip

    def a_study(self, known: SamplerContext | None = None, **more: Any) -> Study:
        known = known or self.foresight.sampler_context()
        return Study(self.folder, self.config, self.genes, registry.load("sampler", "screened"), context=known, **more)

    def pick(self, rng: np.random.Generator) -> Picked:
        return {gene.name: gene.options[int(rng.integers(len(gene.options)))] for gene in self.genes}

    def costs(self, picked: Picked) -> tuple[float, int]:
        """Milliseconds and bytes by other prices than those that a guesser begins with."""
        candidate = self.compression.decode(self.space, picked)
        columns = dict(zip(COST_COLUMNS, self.foresight.decode_all([picked])[0].features.cost_columns, strict=True))  # type: ignore[union-attr]
        kernels = sum(v for n, v in columns.items() if n.rstrip("0123456789") in ("dense", "pointwise", "moving"))
        macs = sum(v * int(n[-2:].lstrip("s")) for n, v in columns.items() if "macs" in n)
        weights = sum(v for n, v in columns.items() if n.startswith("weights"))
        slow = 1.3 if candidate.architecture["activation"] == "hard_swish" else 1.0
        return slow * (0.02 + 0.01 * kernels + 4e-9 * macs), int(2 * weights + 700 * kernels + 5000)

    def record(self, number: int, picked: Picked) -> Record:
        candidate = self.compression.decode(self.space, picked)
        latency, size = self.costs(picked)
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
            with ExitStack() as held:
                ask = study.ask(held)
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


def test_picks_of_one_candidate_have_one_name(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    picked = bench.pick(rng) | {"stage4.depth": 0}
    same = picked | {"stage4.width": 8 if picked["stage4.width"] != 8 else 16}
    other = picked | {"stage1.width": 8 if picked["stage1.width"] != 8 else 16}
    names = bench.foresight.identities([picked, same, other])
    assert names[0] == names[1] != names[2]
    assert names[0] == bench.compression.decode(bench.space, picked).key


def test_a_pick_without_a_path_is_not_allowed_and_has_a_name_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "darts")
    dead = bench.pick(np.random.default_rng(0)) | {g.name: "none" for g in bench.genes if ".op_" in g.name}
    other = dead | {"width": 8 if dead["width"] != 8 else 16}
    known = bench.foresight.sampler_context()
    assert known.allowed is not None
    assert list(known.allowed([dead])) == [False]
    assert len(set(bench.foresight.identities([dead, other]))) == 2
    assert not bench.foresight.features([dead]).any()


def test_costs_are_exact_once_drafted_and_learned_for_the_others(bench: Bench) -> None:
    rng = np.random.default_rng(1)
    picks = [bench.pick(rng) for _ in range(160)]
    truth = np.array([bench.costs(p) for p in picks])
    known = bench.foresight.sampler_context()
    assert known.known_objectives is not None
    assert known.log_std is not None
    before = np.asarray(known.log_std(picks))[:, 1].mean()
    for number, picked in enumerate(picks[:60]):
        bench.folder.append(bench.record(number, picked))
    cheap, doubt = np.asarray(known.known_objectives(picks)), np.asarray(known.log_std(picks))
    assert np.isnan(cheap[:, 0]).all()
    np.testing.assert_allclose(cheap[:60, 1:], truth[:60])
    assert not doubt[:60, 1:].any()
    errors = np.log(cheap[60:, 1:] / truth[60:])
    assert np.median(np.abs(errors), axis=0) == pytest.approx([0, 0], abs=0.07)
    assert doubt[60:, 1].mean() < 0.3 * before
    inside = np.abs(errors[:, 0]) < 2 * doubt[60:, 1]
    assert inside.mean() > 0.8


def test_the_latency_of_a_busy_machine_counts_as_that_of_the_machine_at_its_best(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_latency="0.2ms")
    picked = bench.pick(np.random.default_rng(4))
    record = bench.record(0, picked)
    assert record.latency is not None
    bench.folder.append(replace(record, latency=replace(record.latency, latency_ms=0.23, slowdown=0.25)))
    known = bench.foresight.sampler_context()
    assert known.known_objectives is not None
    assert known.feasibility is not None
    assert np.asarray(known.known_objectives([picked]))[0, 1] == pytest.approx(0.23 / 1.25)
    assert list(known.feasibility([picked])) == [1.0]


def test_the_chance_to_keep_a_limit_is_a_fact_for_drafts_and_a_guess_for_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_latency="0.2ms")
    rng = np.random.default_rng(2)
    picks = [bench.pick(rng) for _ in range(140)]
    for number, picked in enumerate(picks[:60]):
        bench.folder.append(bench.record(number, picked))
    kept = np.array([bench.costs(p)[0] <= 0.2 for p in picks])
    chance = bench.foresight.feasibility(picks)
    assert chance[:60].tolist() == kept[:60].astype(float).tolist()
    assert 0 < kept.mean() < 1
    assert ((chance[60:] > 0.5) == kept[60:]).mean() > 0.9
    assert ((chance[60:] > 0) & (chance[60:] < 1)).any()


def test_a_search_asks_no_candidate_twice_and_soon_keeps_to_the_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_latency="0.12ms")
    records = bench.go_on(bench.a_study(), 24)
    assert len({r.key for r in records}) == len(records)
    chance = np.mean([bench.costs(bench.pick(np.random.default_rng(i)))[0] <= 0.12 for i in range(100)])
    kept = np.mean([r.status == "complete" for r in records[10:]])
    assert chance < 0.4
    assert kept > 0.8


def test_the_same_records_give_the_same_answers_in_any_process(tmp_path: Path) -> None:
    whole = Bench(tmp_path / "whole")
    whole.go_on(whole.a_study(), 13)
    halves = Bench(tmp_path / "halves")
    halves.go_on(halves.a_study(), 11)
    halves.go_on(halves.a_study(halves.a_foresight().sampler_context()), 2)
    assert [r.key for r in halves.folder.records()] == [r.key for r in whole.folder.records()]


def test_what_is_asked_again_outlives_what_is_not(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.searcher.acquisition.surrogate.MAX_CACHED_PARAMS", 4)
    rng = np.random.default_rng(6)
    kept = bench.pick(rng)
    first = bench.foresight.decode_all([kept])[0]
    for _ in range(12):
        bench.foresight.decode_all([bench.pick(rng), kept])
    assert bench.foresight.decode_all([kept])[0] is first
    assert len(bench.foresight._recent_params) + len(bench.foresight._older_params) <= 2 * (4 + 2)


def test_of_an_equal_list_the_answer_is_not_that_to_the_last_one(bench: Bench) -> None:
    rng = np.random.default_rng(7)
    known = bench.foresight.sampler_context()
    assert known.known_objectives is not None
    picks = [bench.pick(rng)]
    before = np.asarray(known.known_objectives(picks))
    bench.folder.append(bench.record(0, picks[0]))
    assert np.asarray(known.known_objectives(picks))[0, 1] == bench.costs(picks[0])[0] != before[0, 1]
    picks.append(bench.pick(rng))
    assert np.asarray(known.known_objectives(picks)).shape == (2, 3)


def test_records_of_another_worker_are_seen_at_once(bench: Bench) -> None:
    picked = bench.pick(np.random.default_rng(3))
    known = bench.foresight.sampler_context()
    assert known.known_objectives is not None
    guessed = np.asarray(known.known_objectives([picked]))[0, 1]
    RunFolder(bench.folder.path).append(bench.record(0, picked))
    assert np.asarray(known.known_objectives([picked]))[0, 1] == bench.costs(picked)[0] != guessed


def test_only_own_records_of_the_search_are_compared_with_those_of_earlier_runs(bench: Bench) -> None:
    rng = np.random.default_rng(5)
    earlier, mine, whole = (bench.record(i, bench.pick(rng)) for i in range(3))
    asked: list[list[str]] = []

    def told(own: Sequence[Record]) -> tuple[list[Picked], Any]:
        asked.append([r.key for r in own])
        return [], np.empty((0, 3))

    known = bench.a_foresight(prior_records=[earlier], prior_trials=told).sampler_context()
    bench.folder.append(Record(**{**whole.__dict__, "phase": "base"}))
    bench.folder.append(mine)
    assert known.prior_trials is not None
    known.prior_trials()
    assert asked == [[mine.key]]


def test_a_verified_record_is_no_example(bench: Bench) -> None:
    picked = bench.pick(np.random.default_rng(4))
    record = bench.record(0, picked)
    bench.folder.append(record)
    again = {**record.__dict__, "phase": "verified", "latency": some_latency(99.0)}
    bench.folder.append(Record(**again))
    known = bench.foresight.sampler_context()
    assert known.known_objectives is not None
    assert np.asarray(known.known_objectives([picked]))[0, 1] == bench.costs(picked)[0]
