"""Verification: who is trained when, how often and for how long, by an evaluator that only takes notes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from nas.config import SearchConfig, make_config
from nas.results.front import verified_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.seed_variance import seed_statistics
from nas.searcher.crash_guard import ABANDONED_REASON, MAX_CRASHES
from nas.searcher.final_training import FinalTraining
from tests.fake_runs import a_run, some_record
from tests.tiny_search import Killed

BOTH = ("accuracy", "latency")
Work = Callable[["Notes", Record, float], str]


@dataclass(frozen=True, kw_only=True)
class Notes:
    """Stands in for the evaluator. `reason` says why a training fails, or nothing."""

    config: SearchConfig
    folder: RunFolder
    repeat: int = 0
    calls: list[tuple[int, int, float]] = field(default_factory=list)
    reason: Work = lambda *_: ""

    def verify(self, record: Record, *, epochs: float, stop: Any) -> list[Record]:
        self.calls.append((record.trial, self.repeat, round(epochs, 6)))
        reason = self.reason(self, record, epochs)
        had = record.epochs if self.repeat == 0 or stop is None or not stop() else 0.0
        blank = self.failed(record.candidate, trial=record.trial, phase="verified", reason=reason)
        if reason:
            return [blank]
        told = some_record(record.trial, 0.7 + 0.01 * self.repeat, record.trial + 1.0)
        fields = {"score": told.score, "latency": told.latency, "seconds": {"train": 10.0 * epochs, "score": 5.0}}
        return [replace(blank, status="complete", epochs=had + epochs, **fields)]

    def failed(self, candidate: Any, *, trial: int, phase: Any, reason: str) -> Record:
        (member,) = [r for r in members(3) if r.trial == trial]
        return replace(member, phase=phase, seed=self.repeat, status="failed", reason=reason, score=None, seconds={})


def members(n: int = 2) -> list[Record]:
    """Members of the search: 2 epochs in 20 s, and 5 s of everything else."""
    return [some_record(i, 0.5, i + 1.0, epochs=2.0, seconds={"train": 20.0, "score": 5.0}) for i in range(n)]


def verification(runs: Path, *, left_s: Callable[[], float | None] = lambda: None, **fields: Any) -> FinalTraining:
    work = {name: fields.pop(name) for name in ("reason",) if name in fields}
    stop = fields.pop("stop", None)
    folder = a_run(runs, records=[])
    config = make_config(**({"final_epochs": 20, "runs": runs} | fields))
    notes: Any = Notes(config=config, folder=folder, **work)
    return FinalTraining(evaluator=notes, members=members(), stop=stop, remaining_s=left_s, on_progress=lambda: None)


def calls(made: FinalTraining) -> list[tuple[int, int, float]]:
    notes: Any = made.evaluator
    found: list[tuple[int, int, float]] = notes.calls
    return found


def records(made: FinalTraining) -> list[Record]:
    return made.evaluator.folder.records()


def test_all_members_have_their_first_seed_before_any_has_its_second(tmp_path: Path) -> None:
    made = verification(tmp_path, verify_seeds=3)
    made.run()
    assert calls(made) == [(trial, seed, 20.0) for seed in range(3) for trial in range(2)]
    assert {(r.trial, r.seed, r.epochs) for r in records(made)} == {(t, s, 22.0) for s in range(3) for t in range(2)}
    assert [r.seed for r in verified_front(records(made), BOTH)] == [0], "trial 0 is as accurate and faster"
    assert [s.accuracies for s in seed_statistics(records(made))] == [pytest.approx((0.7, 0.71, 0.72), abs=0.01)] * 2
    again = verification(tmp_path, verify_seeds=3)
    again.run()
    assert calls(again) == [], "the same command again does nothing"
    more = verification(tmp_path, verify_seeds=4)
    more.run()
    assert calls(more) == [(0, 3, 20.0), (1, 3, 20.0)]


def test_a_verification_that_was_killed_goes_on_with_the_seeds_that_are_missing(tmp_path: Path) -> None:
    def dies(notes: Notes, *_: Any) -> str:
        if len(notes.calls) == 4:
            raise Killed
        return ""

    with pytest.raises(Killed):
        verification(tmp_path, verify_seeds=3, reason=dies).run()
    rest = verification(tmp_path, verify_seeds=3)
    rest.run()
    assert calls(rest) == [(1, 1, 20.0), (0, 2, 20.0), (1, 2, 20.0)]
    assert len(records(rest)) == 6


def test_what_failed_is_tried_once_more_with_half_of_the_epochs(tmp_path: Path) -> None:
    def fails(notes: Notes, record: Record, epochs: float) -> str:
        return "loss is not finite" if record.trial == 0 and epochs > 15 else ""

    made = verification(tmp_path, reason=fails)
    made.run()
    assert calls(made) == [(0, 0, 20.0), (0, 0, 10.0), (1, 0, 20.0)]
    first, second, _ = records(made)
    assert (first.status, second.status, second.epochs) == ("failed", "complete", 12.0)
    assert second.notes == ("second try, with half of the epochs; the first failed: loss is not finite",)
    assert verified_front(records(made), BOTH)[0].epochs == 12.0


def test_there_is_no_third_try_and_no_second_one_of_a_further_seed(tmp_path: Path) -> None:
    def fails(notes: Notes, record: Record, epochs: float) -> str:
        return "no" if record.trial == 0 or notes.repeat else ""

    for _ in range(2):
        made = verification(tmp_path, verify_seeds=2, reason=fails)
        made.run()
    assert calls(made) == []
    found = [(r.trial, r.seed, r.status) for r in records(made)]
    assert found == [(0, 0, "failed"), (0, 0, "failed"), (1, 0, "complete"), (1, 1, "failed")]
    assert seed_statistics(records(made))[0].n_failed == 1


def test_a_member_that_ends_the_process_is_given_up_for_good(tmp_path: Path) -> None:
    made = verification(tmp_path)
    key = made.members[0].key
    (made.evaluator.folder.path / "locks" / f"verify-{key}.deaths").write_text(str(MAX_CRASHES))
    for again in (made, verification(tmp_path)):
        again.run()
        assert [trial for trial, _, _ in calls(again)] == ([1] if again is made else [])
    first = records(made)[0]
    assert (first.key, first.status, first.reason) == (key, "failed", ABANDONED_REASON)


def test_a_process_that_dies_in_a_training_leaves_its_count(tmp_path: Path) -> None:
    seen: list[str] = []

    def looks(notes: Notes, record: Record, _: float) -> str:
        seen.extend(file.read_text() for file in (notes.folder.path / "locks").glob("*.deaths"))
        return ""

    verification(tmp_path, reason=looks).run()
    assert seen == ["1", "1"]


def test_the_time_left_is_shared_by_members_and_seeds(tmp_path: Path) -> None:
    """An epoch takes 10 s, all else 5 s; a further seed learns the search's 2 epochs again."""
    spent = [0.0]

    def work(notes: Notes, record: Record, epochs: float) -> str:
        spent[0] += 10.0 * (epochs + (record.epochs if notes.repeat else 0.0)) + 5.0
        return ""

    budget = 2 * (5 + 60 + 2 * (5 + 20 + 60))  # six epochs for both members with three seeds each
    made = verification(tmp_path, verify_seeds=3, reason=work, left_s=lambda: budget - spent[0])
    made.run()
    epochs = {(t, s): e for t, s, e in calls(made)}
    assert epochs[0, 0] == pytest.approx(6.0)
    assert epochs == {(t, s): pytest.approx(6.0) for s in range(3) for t in range(2)}
    assert spent[0] == pytest.approx(budget)
    one = verification(tmp_path / "one", left_s=lambda: 2 * (5 + 60.0))
    one.run()
    assert calls(one)[0] == (0, 0, 6.0)
    none = verification(tmp_path / "none", left_s=lambda: 3.0)
    none.run()
    assert calls(none) == []


def test_a_further_seed_has_as_many_epochs_as_the_first_or_is_left_out(tmp_path: Path) -> None:
    verification(tmp_path, final_epochs=8).run()
    late = verification(tmp_path, verify_seeds=2, final_epochs=20, left_s=lambda: 90.0)
    late.run()
    assert calls(late) == [], "85 s, and 20 s for what the search had taught"
    more = verification(tmp_path, verify_seeds=2, final_epochs=20)
    more.run()
    assert calls(more) == [(0, 1, 8.0), (1, 1, 8.0)]


def test_a_further_seed_that_the_budget_cuts_short_is_not_recorded(tmp_path: Path) -> None:
    made = verification(tmp_path, verify_seeds=2, stop=lambda: True)
    made.run()
    assert {(r.trial, r.seed) for r in records(made)} == {(0, 0), (1, 0)}


def test_without_final_epochs_nobody_is_verified(tmp_path: Path) -> None:
    made = verification(tmp_path, final_epochs=0, verify_seeds=2)
    made.run()
    assert calls(made) == []
