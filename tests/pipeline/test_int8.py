"""INT8 must pay: a network that it makes no faster than its FP32 baseline is not trained, or loses its place."""

from collections.abc import Callable

import pytest

import nas.evaluation.trained
from nas.evaluation.evaluator import Evaluator
from nas.latency.int8_speedup import Int8Speedup
from nas.latency.latency import Latency
from nas.results.record import Record
from tests.tiny_evaluator import evaluate, never, small
from tests.tiny_search import Training, replace_step


def faster(own: Latency, baseline: Latency) -> Int8Speedup:
    return Int8Speedup(speedup=2, low=1.9, high=2.1, twin_ms=2, own_ms=1, kind=own.kind)


def no_faster(own: Latency, baseline: Latency) -> Int8Speedup:
    return Int8Speedup(speedup=1.01, low=0.8, high=1.2, twin_ms=1.01, own_ms=1, kind=own.kind)


def test_a_network_that_int8_makes_no_faster_is_not_trained(
    make: Callable[..., Evaluator], trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_step(monkeypatch, "int8_speedup", lambda _: no_faster)
    record = evaluate(make(target="cpu"), small(bits_of_stage2=8))
    assert (record.status, record.violations) == ("infeasible", {"no_gain": pytest.approx(0.25)})
    assert record.reason == "8 bits: no gain: 1 ms against 1.01 ms of its float twin, measured"
    assert not trainings


def test_a_network_that_int8_makes_faster_is_trained(
    make: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_step(monkeypatch, "int8_speedup", lambda _: faster)
    record = evaluate(make(), small(bits_of_stage2=8))
    assert record.status == "complete"
    assert record.gain == faster(record.latency, record.latency)  # type: ignore[arg-type]
    assert Record.from_json(record.to_json()).gain == record.gain


def test_networks_without_int8_have_no_baseline(make: Callable[..., Evaluator]) -> None:
    assert evaluate(make(), promote=never).gain is None


def test_a_verified_int8_network_that_is_no_faster_loses_its_place_to_the_baseline(
    make: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = make(qat=0)
    replace_step(monkeypatch, "int8_speedup", lambda _: faster)
    found = evaluate(evaluator, small(bits_of_stage2=8))
    replace_step(monkeypatch, "int8_speedup", lambda _: no_faster)
    baseline, record = evaluator.train_final(found, epochs=0.5)
    assert (record.status, baseline.status) == ("infeasible", "complete")
    assert (record.key, baseline.candidate) == (found.key, small(bits_of_stage2=16))
    assert baseline.notes == (f"in the place of {found.key}, whose 8-bit units gain nothing",)
    assert record.before is not None
    assert baseline.score is not None
    assert record.before.accuracy == baseline.score.accuracy, "both are of the same weights in FP32"


def test_quantisation_aware_training_follows_the_final_training(
    make: Callable[..., Evaluator], trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nas.evaluation.trained, "MAX_QUANTIZATION_LOSS", -1.0)
    evaluator = make(qat=0.5)
    replace_step(monkeypatch, "int8_speedup", lambda _: faster)
    found = evaluate(evaluator, small(bits_of_stage2=8))
    before = len(trainings)
    (record,) = evaluator.train_final(found, epochs=1)
    assert [t.epochs for t in trainings[before:]] == [1, 1.5], "half of the three epochs that it had"
    (note,) = record.notes
    assert "8 bits" in note
    assert record.status == "complete"


def test_a_network_that_quantisation_costs_little_is_not_trained_on(
    make: Callable[..., Evaluator], trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nas.evaluation.trained, "MAX_QUANTIZATION_LOSS", 1.0)
    evaluator = make(qat=0.5)
    replace_step(monkeypatch, "int8_speedup", lambda _: faster)
    found = evaluate(evaluator, small(bits_of_stage2=8))
    before = len(trainings)
    (record,) = evaluator.train_final(found, epochs=1)
    assert [t.epochs for t in trainings[before:]] == [1]
    (note,) = record.notes
    assert note.startswith("quantised after training, which cost ")
