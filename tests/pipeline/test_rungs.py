"""Rungs: epochs, promotion, pruning, checkpoints and execution formats."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch

import nas.training.trainer
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.untrained import UntrainedMetrics
from nas.training.execution_format import ExecutionFormat
from tests.tiny_evaluator import evaluate, never, small
from tests.tiny_search import Killed, Training


def test_rungs_share_the_epochs_and_promotion_is_decided_between_them(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    decisions = []

    def promote(rung: int, accuracy: float, draft: UntrainedMetrics) -> bool:
        decisions.append((rung, accuracy, draft.latency.latency_ms))
        return True

    evaluator = make()
    record = evaluate(evaluator, promote=promote)
    assert [t.epochs for t in trainings] == [0.5, 0.5, 1.0]
    assert len({t.seed for t in trainings}) == 3
    assert [rung for rung, _, _ in decisions] == [1, 2]
    assert all(0 <= accuracy <= 1 for _, accuracy, _ in decisions)
    assert {latency for _, _, latency in decisions} == {record.objective("latency")}
    assert [p.name for p in (evaluator.folder.path / "checkpoints").glob("*.pt")] == [f"{record.key}-3.pt"]


def test_each_rung_continues_from_the_weights_of_the_one_before(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    evaluator = make()
    evaluate(evaluator, promote=never)
    kept = torch.load(evaluator.folder.path / "checkpoints" / f"{small().key}-1.pt", weights_only=True)
    evaluate(evaluator)
    first, second, _ = trainings
    assert all(torch.equal(kept[name], second.before[name]) for name in kept)
    assert not all(torch.equal(kept[name], first.before[name]) for name in kept)


def test_a_candidate_that_is_not_promoted_stops_there_and_is_finished(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    evaluator = make()
    record = evaluate(evaluator, promote=lambda rung, *_: rung < 2)
    assert (record.status, record.rung, record.epochs) == ("complete", 2, 1.0)
    assert len(trainings) == 2
    assert (evaluator.folder.path / record.model).exists()
    assert (evaluator.folder.path / "checkpoints" / f"{record.key}-2.pt").exists(), "its checkpoint stays"


def test_a_candidate_ends_with_its_present_rung_when_the_search_is_over(make: Callable[..., Evaluator]) -> None:
    record = evaluate(make(), is_search_over=lambda: True)
    assert (record.status, record.rung) == ("complete", 1)


def test_a_pruned_candidate_trains_at_full_width_first_and_is_exported_narrow(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    candidate = small(sparsity_of_stage2=0.75)
    assert candidate.pruned["stage2"] < candidate.widths["stage2"]
    evaluator = make(prune_steps=2)
    record = evaluate(evaluator, candidate, promote=never)
    assert [t.epochs for t in trainings] == [0.25, 0.125, 0.125], (
        "half at full width, then two pruning steps that share the rest"
    )
    between = {**candidate.widths, "stage2": 16}
    sizes = [
        sum(p.numel() for p in evaluator.builder.build(candidate, widths).parameters())
        for widths in (candidate.widths, between, candidate.pruned)
    ]
    assert [t.params for t in trainings] == sizes
    assert len({t.seed for t in trainings}) == 3, "each part has its own order of images"
    unpruned = evaluate(make("other"), promote=never)
    assert record.params is not None
    assert unpruned.params is not None
    assert record.params < unpruned.params
    assert record.key != unpruned.key


def test_by_default_channels_leave_in_one_step_with_all_epochs_after_it(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    evaluate(make(), small(sparsity_of_stage2=0.75), promote=never)
    assert [t.epochs for t in trainings] == [0.25, 0.25]


def test_promotion_is_decided_again_after_a_kill_before_the_decision(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    decisions = []

    def dies(rung: int, accuracy: float, draft: UntrainedMetrics) -> bool:
        decisions.append((rung, accuracy))
        raise Killed

    def refuses(rung: int, accuracy: float, draft: UntrainedMetrics) -> bool:
        decisions.append((rung, accuracy))
        return False

    evaluator = make()
    with pytest.raises(Killed):
        evaluate(evaluator, promote=dies)
    assert evaluate(evaluator, promote=refuses).rung == 1
    assert decisions[0] == decisions[1]
    assert len(trainings) == 1


@pytest.mark.parametrize(("device", "saved", "is_reused"), [("auto", "cpu", True), ("cpu", "cuda", False)])
def test_the_saved_execution_format_is_used_unless_another_device_is_requested(
    make: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch, device: str, saved: str, is_reused: bool
) -> None:
    evaluator = make(device=device)
    file = evaluator.folder.path / "checkpoints" / f"{small().key}-execution.json"
    file.write_text(json.dumps(asdict(ExecutionFormat(device=saved, memory_format="channels_last", threads=2))))
    formats = []
    train = nas.training.trainer.train

    def recording(*arguments: Any, execution: ExecutionFormat, **more: Any) -> Any:
        formats.append(execution)
        return train(*arguments, execution=execution, **more)

    monkeypatch.setattr(nas.training.trainer, "train", recording)
    assert evaluate(evaluator, promote=never).status == "complete"
    assert formats == [ExecutionFormat(memory_format="channels_last", threads=2) if is_reused else ExecutionFormat()]


def test_a_rung_that_is_stopped_records_its_epochs_and_leaves_no_checkpoint(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    evaluator = make()
    found = evaluate(evaluator, stop=lambda: True)
    assert (found.status, found.rung, len(trainings)) == ("complete", 1, 1)
    assert found.epochs < trainings[0].epochs
    assert evaluator.checkpoints.load(found.candidate) == (None, 0)
