"""The flow: which candidates are trained, interruptions, errors, the order of work, and the random state."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import nas.training.trainer
from nas import registry
from nas.errors import ConfigError, ExportError, TrainError
from nas.evaluation.evaluator import Evaluator
from nas.results.phase_timer import PhaseTimer
from nas.results.record import Record
from nas.training.trainer import InitialWeights
from tests.tiny_evaluator import RUNGS, SMALL, Make, evaluate, fields_of, never, small
from tests.tiny_search import Killed, Training, after, replace_step


@pytest.mark.parametrize("decomposition", ["tucker", "cp"])
def test_zeros_in_a_factorised_and_pruned_network_stay_zero_in_each_training(make: Make, decomposition: str) -> None:
    compressors = ("prune_structured", "low_rank", "prune_unstructured", "quantize")
    evaluator = make(target="cpu", compressors=compressors)
    genes = {"rank.stage2": 0.5, "rank.stage3": 0.5, "decomposition": decomposition, "sparsity.stage2": 0.25}
    wanted = {"zeros.stage2": 0.75, "zeros.stage3": 0.9, "zeros_scope": "layer"}
    candidate = evaluator.compression.decode(evaluator.space, SMALL | genes | wanted)
    untrained = evaluator.evaluate_untrained(candidate)
    record = evaluate(evaluator, candidate)
    verified = evaluator.train_final(record, epochs=1)[-1]
    assert [(r.status, r.reason) for r in (record, verified)] == [("complete", "")] * 2
    assert record.memory_bytes == verified.memory_bytes == untrained.costs.memory_bytes
    assert record.activation_bytes == untrained.costs.activation_bytes
    full = evaluator.evaluate_untrained(evaluator.compression.decode(evaluator.space, SMALL | wanted))
    assert record.params == verified.params == untrained.costs.params < full.costs.params
    fresh_biases = record.nonzero_params - untrained.costs.nonzero_params  # zero before any training
    assert 0 <= fresh_biases < 200
    assert record.nonzero_params == verified.nonzero_params < 0.6 * record.params


@pytest.mark.parametrize(
    ("limit", "objective"), [("max_latency", "latency"), ("max_size", "size"), ("max_memory", "memory")]
)
def test_a_candidate_that_violates_latency_size_or_memory_is_never_trained(
    make: Callable[..., Evaluator], trainings: list[Training], limit: str, objective: str
) -> None:
    evaluator = make(**{limit: 0.01})
    record = evaluate(evaluator)
    value = record.objective(objective)
    assert value is not None
    assert record.status == "infeasible"
    assert record.violations == {limit: pytest.approx(value / 0.01 - 1)}
    assert record.reason.startswith(f"{limit} ")
    assert (record.score, record.model, record.epochs) == (None, "", 0.0)
    assert record.size_bytes is not None
    assert record.macs is not None
    assert trainings == []
    assert not list((evaluator.folder.path / "models").iterdir())
    assert not list((evaluator.folder.path / "checkpoints").iterdir())


def test_the_constraint_on_accuracy_is_checked_after_training(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    record = evaluate(make(min_accuracy=1.0, epochs=0.5))
    assert record.score is not None
    assert record.score.accuracy < 1
    assert record.status == "infeasible"
    assert record.violations == {"min_accuracy": pytest.approx(1 - record.score.accuracy)}
    assert len(trainings) == 3


@pytest.mark.parametrize(
    ("name", "calls"),
    [("train", 0), ("train", 1), ("train", 2), ("predict", 1), ("export_onnx", 1), ("score", 0), ("measure", 0)],
)
def test_a_process_may_be_killed_anywhere_and_the_resumed_record_is_the_same(
    make: Callable[..., Evaluator],
    undisturbed: Record,
    trainings: list[Training],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    calls: int,
) -> None:
    evaluator = make()
    with monkeypatch.context() as patch:
        replace_step(patch, name, lambda step: after(calls, step))
        with pytest.raises(Killed):
            evaluate(evaluator)
    again = evaluate(evaluator)
    assert fields_of(again) == fields_of(undisturbed), "the file is the same too, byte for byte"
    assert len(trainings) == len(RUNGS), "no finished rung is trained again"


def test_the_order_of_evaluation_changes_nothing(make: Callable[..., Evaluator]) -> None:
    one, other = small(), small(stem_width=16)
    forward, backward = make("forward"), make("backward")
    first = [evaluate(forward, c, promote=never) for c in (one, other)]
    second = [evaluate(backward, c, promote=never) for c in (other, one)]
    assert [r.sha256 for r in first] == [r.sha256 for r in reversed(second)]
    assert evaluate(make("another seed", seed=1), promote=never).sha256 != first[0].sha256


@pytest.mark.parametrize(
    ("step", "error", "reason"),
    [
        ("export_onnx", ExportError("the checker\nrefuses it"), "the checker refuses it"),
        ("train", TrainError("the loss must be finite"), "the loss must be finite"),
        ("score", RuntimeError("out of\n memory"), "RuntimeError: out of memory"),
    ],
)
def test_an_error_ends_in_a_failed_record(
    make: Callable[..., Evaluator],
    undisturbed: Record,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: Exception,
    reason: str,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    evaluator = make()
    replace_step(monkeypatch, step, lambda _: fails)
    for record in (evaluate(evaluator), *evaluator.train_final(undisturbed, epochs=1)):
        assert (record.status, record.reason) == ("failed", reason)
        assert record.score is None
        assert record.finished
    assert record.phase == "verified"


def test_an_error_of_the_user_is_raised(make: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ConfigError("device cuda must be present")

    monkeypatch.setattr(nas.training.trainer, "train", fails)
    with pytest.raises(ConfigError, match="device cuda"):
        evaluate(make())


def test_final_training_without_a_checkpoint_adds_the_epochs_of_the_search(
    make: Callable[..., Evaluator], trainings: list[Training]
) -> None:
    evaluator = make()
    found = evaluate(evaluator, promote=never)
    (evaluator.folder.path / "checkpoints" / f"{found.key}-1.pt").unlink()
    (record,) = evaluator.train_final(found, epochs=1)
    assert record.epochs == trainings[-1].epochs == 1.5


def test_the_random_state_of_the_process_is_the_same_after_an_evaluation(make: Make) -> None:
    proxies = [registry.load("proxy", name) for name in registry.names("proxy")]
    objectives = ("accuracy", "latency", "size")  # INT8 need not be faster
    compressors = ("prune_structured", "low_rank", "quantize")
    evaluator = replace(make(compressors=compressors, qat=0.5, objectives=objectives), proxies=proxies)
    genes = {"sparsity.stage2": 0.5, "rank.stage3": 0.5, "bits.stage2": 8}
    candidate = evaluator.compression.decode(evaluator.space, SMALL | genes)
    torch_state, numpy_state, python_state = torch.random.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    record = evaluate(evaluator, candidate)
    assert record.proxies
    again = evaluate(evaluator, candidate)  # from its checkpoint
    assert again.sha256 == record.sha256
    verified = evaluator.train_final(record, epochs=0.5)[-1]
    evaluator.trainer.estimate_epoch_seconds(candidate, PhaseTimer())
    assert [(r.status, r.reason) for r in (record, again, verified)] == [("complete", "")] * 3
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))  # noqa: NPY002
    assert random.getstate() == python_state


def test_parts_are_made_once_and_follow_what_is_replaced(make: Make) -> None:
    evaluator = make()
    assert evaluator.trainer is evaluator.trainer
    assert evaluator.artifact_evaluator.trainer is evaluator.trainer
    assert evaluator.untrained_evaluator.builder is evaluator.trainer.builder is evaluator.checkpoints.builder
    weights = InitialWeights(state_dict={}, epochs=4.0)
    other = replace(evaluator, initial_weights=weights, seed_index=2, config=evaluator.config.with_fields(max_size=9.0))
    assert other.artifact_evaluator.trainer.initial_weights is weights
    assert other.checkpoints.builder.seed_index == 2
    assert other.untrained_evaluator.limits.max_size == 9.0
    assert evaluator.trainer.initial_weights is None
