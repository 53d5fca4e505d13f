"""Final training: which members are trained, in what order, how often and how long, with a fake evaluator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from nas.config import SearchConfig, make_config
from nas.results.front import verified_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.seed_variance import seed_statistics
from nas.searcher.executor import Death, Outcome, Task, TaskResult
from nas.searcher.final_training import FinalTraining
from nas.searcher.workforce import Workforce
from tests.fake_runs import a_run, some_record
from tests.tiny_search import Killed

BOTH = ("accuracy", "latency")
Work = Callable[["FakeEvaluator", Record, float], str]


@dataclass(frozen=True, kw_only=True)
class FakeEvaluator:
    """Records its calls instead of training. `reason` returns why a training fails, or nothing."""

    config: SearchConfig
    folder: RunFolder
    seed_index: int = 0
    calls: list[tuple[int, int, float]] = field(default_factory=list)
    reason: Work = lambda *_: ""

    def train_final(self, record: Record, *, epochs: float, stop: Any) -> list[Record]:
        self.calls.append((record.trial, self.seed_index, round(epochs, 6)))
        reason = self.reason(self, record, epochs)
        had = record.epochs if self.seed_index == 0 or stop is None else 0.0
        blank = self.failed_record(record.candidate, trial=record.trial, phase="verified", reason=reason)
        if reason:
            return [blank]
        scored = some_record(record.trial, 0.7 + 0.01 * self.seed_index, record.trial + 1.0)
        fields = {"score": scored.score, "latency": scored.latency, "seconds": {"train": 10.0 * epochs, "score": 5.0}}
        return [replace(blank, status="complete", epochs=had + epochs, **fields)]

    def failed_record(self, candidate: Any, *, trial: int, phase: Any, reason: str) -> Record:
        (member,) = [r for r in members(3) if r.trial == trial]
        return replace(
            member, phase=phase, seed=self.seed_index, status="failed", reason=reason, score=None, seconds={}
        )


def members(n: int = 2) -> list[Record]:
    """Members of the search: 2 epochs in 20 s, and 5 s of everything else."""
    return [some_record(i, 0.5, i + 1.0, epochs=2.0, seconds={"train": 20.0, "score": 5.0}) for i in range(n)]


class FakeExecutor:
    """Takes each step at once, where it is submitted, with the fake evaluator."""

    def __init__(self, evaluator: Any, n_workers: int = 1, deaths: Sequence[Death] = ()) -> None:
        self.evaluator, self.n_workers, self.deaths = evaluator, n_workers, list(deaths)
        self.outcomes: list[Outcome] = []

    def submit(self, task: Task) -> None:
        if self.deaths:
            self.outcomes.append(Outcome(task=task, death=self.deaths.pop(0)))
            return
        stop = None if task.seconds_left is None else lambda: True
        value = task.step.function(self.evaluator, stop=stop, **task.step.arguments)
        self.outcomes.append(Outcome(task=task, result=TaskResult(value=value, files={}, removed=(), lines={})))

    def wait(self, timeout_s: float) -> Outcome:
        return self.outcomes.pop(0)


def final_training(
    runs: Path,
    *,
    left_s: Callable[[], float | None] = lambda: None,
    training_s: float | None = None,
    n_workers: int = 1,
    deaths: Sequence[Death] = (),
    **fields: Any,
) -> FinalTraining:
    work = {name: fields.pop(name) for name in ("reason",) if name in fields}
    folder = a_run(runs, records=[])
    config = make_config(**({"final_epochs": 20, "runs": runs} | fields))
    evaluator: Any = FakeEvaluator(config=config, folder=folder, **work)
    executor: Any = FakeExecutor(evaluator, n_workers, deaths)
    return FinalTraining(
        evaluator=evaluator,
        folder=folder,
        training=config.training,
        members=members(),
        workforce=Workforce(executor, folder, training_s=lambda: training_s, on_wait=lambda: None),
        n_workers=n_workers,
        remaining_s=left_s,
        training_s=lambda: training_s,
        on_progress=lambda: None,
    )


def calls(training: FinalTraining) -> list[tuple[int, int, float]]:
    evaluator: Any = training.evaluator
    trainings: list[tuple[int, int, float]] = evaluator.calls
    return trainings


def records(training: FinalTraining) -> list[Record]:
    return training.evaluator.folder.records()


def test_a_fold_is_entered_before_its_trainings_and_only_if_one_is_left(tmp_path: Path) -> None:
    training = final_training(tmp_path, verify_seeds=3)
    entered: list[tuple[int, int]] = []
    folds = replace(training, enter_fold=lambda fold: entered.append((fold, len(calls(training)))))
    folds.run()
    assert entered == [(1, 2), (2, 4)], "two members were trained in each fold before"
    again = replace(final_training(tmp_path, verify_seeds=4), enter_fold=lambda fold: entered.append((fold, 0)))
    again.run()
    assert entered[2:] == [(3, 0)]


def test_all_members_complete_a_seed_before_the_next_one_starts(tmp_path: Path) -> None:
    training = final_training(tmp_path, verify_seeds=3)
    training.run()
    assert calls(training) == [(trial, seed, 20.0) for seed in range(3) for trial in range(2)]
    assert {(r.trial, r.seed, r.epochs) for r in records(training)} == {
        (t, s, 22.0) for s in range(3) for t in range(2)
    }
    assert [r.seed for r in verified_front(records(training), BOTH)] == [0], "trial 0 is as accurate and faster"
    assert [s.accuracies for s in seed_statistics(records(training))] == [
        pytest.approx((0.7, 0.71, 0.72), abs=0.01)
    ] * 2
    again = final_training(tmp_path, verify_seeds=3)
    again.run()
    assert calls(again) == [], "repeating the command trains nothing"
    more = final_training(tmp_path, verify_seeds=4)
    more.run()
    assert calls(more) == [(0, 3, 20.0), (1, 3, 20.0)]


def test_killed_final_training_resumes_with_the_missing_seeds(tmp_path: Path) -> None:
    def dies(evaluator: FakeEvaluator, *_: Any) -> str:
        if len(evaluator.calls) == 4:
            raise Killed
        return ""

    with pytest.raises(Killed):
        final_training(tmp_path, verify_seeds=3, reason=dies).run()
    rest = final_training(tmp_path, verify_seeds=3)
    rest.run()
    assert calls(rest) == [(1, 1, 20.0), (0, 2, 20.0), (1, 2, 20.0)]
    assert len(records(rest)) == 6


def test_failed_training_is_tried_once_more_with_half_of_the_epochs(tmp_path: Path) -> None:
    def fails(evaluator: FakeEvaluator, record: Record, epochs: float) -> str:
        return "loss is not finite" if record.trial == 0 and epochs > 15 else ""

    training = final_training(tmp_path, reason=fails)
    training.run()
    assert calls(training) == [(0, 0, 20.0), (0, 0, 10.0), (1, 0, 20.0)]
    first, second, _ = records(training)
    assert (first.status, second.status, second.epochs) == ("failed", "complete", 12.0)
    assert second.notes == ("second try, with half of the epochs; the first failed: loss is not finite",)
    assert verified_front(records(training), BOTH)[0].epochs == 12.0


def test_no_third_attempt_and_no_second_one_at_a_further_seed(tmp_path: Path) -> None:
    def fails(evaluator: FakeEvaluator, record: Record, epochs: float) -> str:
        return "no" if record.trial == 0 or evaluator.seed_index else ""

    for _ in range(2):
        training = final_training(tmp_path, verify_seeds=2, reason=fails)
        training.run()
    assert calls(training) == []
    found = [(r.trial, r.seed, r.status) for r in records(training)]
    assert found == [(0, 0, "failed"), (0, 0, "failed"), (1, 0, "complete"), (1, 1, "failed")]
    assert seed_statistics(records(training))[0].n_failed == 1


def test_member_that_keeps_crashing_is_abandoned_for_good(tmp_path: Path) -> None:
    training = final_training(tmp_path, deaths=[Death(cause="SIGSEGV", is_crash=True)] * 2)
    training.run()
    again = final_training(tmp_path)
    again.run()
    assert [trial for trial, _, _ in calls(training)] == [1]
    assert calls(again) == []
    first = records(training)[0]
    reason = "it crashed its process 2 times: SIGSEGV, SIGSEGV"
    assert (first.key, first.status, first.reason) == (training.members[0].key, "failed", reason)


def test_member_whose_worker_was_killed_is_trained_again(tmp_path: Path) -> None:
    training = final_training(tmp_path, deaths=[Death(cause="SIGKILL", is_crash=False)] * 5)
    training.run()
    assert [(r.trial, r.status) for r in records(training)] == [(0, "complete"), (1, "complete")]


def test_remaining_time_is_divided_among_members_and_seeds(tmp_path: Path) -> None:
    """An epoch takes 10 s, all else 5 s; a further seed repeats the search's 2 epochs."""
    spent = [0.0]

    def work(evaluator: FakeEvaluator, record: Record, epochs: float) -> str:
        spent[0] += 10.0 * (epochs + (record.epochs if evaluator.seed_index else 0.0)) + 5.0
        return ""

    budget = 2 * (5 + 60 + 2 * (5 + 20 + 60))  # six epochs for both members with three seeds each
    training = final_training(tmp_path, verify_seeds=3, reason=work, left_s=lambda: budget - spent[0])
    training.run()
    epochs = {(t, s): e for t, s, e in calls(training)}
    assert epochs[0, 0] == pytest.approx(6.0)
    assert epochs == {(t, s): pytest.approx(6.0) for s in range(3) for t in range(2)}
    assert spent[0] == pytest.approx(budget)
    one = final_training(tmp_path / "one", left_s=lambda: 2 * (5 + 60.0))
    one.run()
    assert calls(one)[0] == (0, 0, 6.0)
    none = final_training(tmp_path / "none", left_s=lambda: 3.0)
    none.run()
    assert calls(none) == []


def test_further_seed_has_as_many_epochs_as_the_first_or_is_left_out(tmp_path: Path) -> None:
    final_training(tmp_path, final_epochs=8).run()
    late = final_training(tmp_path, verify_seeds=2, final_epochs=20, left_s=lambda: 90.0)
    late.run()
    assert calls(late) == [], "85 s, and 20 s for the epochs of the search"
    more = final_training(tmp_path, verify_seeds=2, final_epochs=20)
    more.run()
    assert calls(more) == [(0, 1, 8.0), (1, 1, 8.0)]


def test_further_seed_that_the_time_limit_cuts_short_is_not_recorded(tmp_path: Path) -> None:
    training = final_training(tmp_path, verify_seeds=2, training_s=-1.0)
    training.run()
    assert {(r.trial, r.seed) for r in records(training)} == {(0, 0), (1, 0)}


def test_without_final_epochs_nothing_is_trained(tmp_path: Path) -> None:
    training = final_training(tmp_path, final_epochs=0, verify_seeds=2)
    training.run()
    assert calls(training) == []
