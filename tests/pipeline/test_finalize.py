"""Finished files: every figure of a record was read off its file."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nas import registry
from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.data.base import FaceData
from nas.evaluation.evaluator import Evaluator
from nas.training.model_builder import UNTRAINED_CALIBRATION_IMAGES
from tests.tiny_evaluator import Make, evaluate, never, small
from tests.tiny_search import Training, accuracy, probabilities, session


@pytest.mark.parametrize("bits", [32, 16, 8])
def test_every_figure_is_read_off_the_file(trained: Evaluator, trainings: list[Training], bits: int) -> None:
    evaluator, faces, candidate = trained, trained.data, small(bits_of_stage1=bits, bits_of_stage2=bits)
    weights = evaluator.folder.path / "checkpoints"
    (weights / f"{candidate.key}-3.pt").write_bytes((weights / f"{small().key}-3.pt").read_bytes())
    record = evaluate(evaluator, candidate, trial=7)
    assert trainings == []
    assert (record.status, record.reason, record.trial, record.key) == ("complete", "", 7, candidate.key)
    assert record.score is not None
    assert record.latency is not None
    assert record.host is not None

    file = evaluator.folder.path / record.model
    assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record.size_bytes == file.stat().st_size
    assert record.score.accuracy == pytest.approx(accuracy(file, faces))
    assert record.score.accuracy > 0.6, "these images are learned in thirty epochs"
    assert record.score.low <= record.score.accuracy <= record.score.high
    assert np.sum(record.score.confusion) == record.score.n == len(faces.val)
    shares = probabilities(file, faces.val.images)
    assert shares.shape == (48, 3)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-3)
    assert record.parity["n"] == 48
    assert record.parity["agreement"] > 0.9
    assert (record.latency.kind, record.host.kind) == ("predicted", "measured")
    assert record.latency.low_ms <= record.latency.latency_ms <= record.latency.high_ms
    assert (record.rung, record.epochs) == (3, 30.0)
    assert record.accuracy_split == "val (val, synthetic faces)"
    assert record.test is None, "a candidate of the search is never scored on the test split"

    metadata = session(file).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == ["angry", "happy", "sad"]
    assert Candidate.from_json(metadata["candidate"]) == candidate
    assert (metadata["key"], metadata["dataset"], metadata["dataset_digest"]) == (candidate.key, "spots", "d" * 64)
    assert json.loads(metadata["synthetic"]) is True
    assert float(metadata["trained_epochs"]) == 30.0


def test_this_machine_as_target_is_measured(make: Callable[..., Evaluator]) -> None:
    record = evaluate(make(target="cpu"), promote=never)
    assert record.latency is not None
    assert record.latency == record.host
    assert (record.latency.kind, record.latency.runs) == ("measured", 20)


def test_a_candidate_enters_the_front_if_no_member_dominates_it(make: Make) -> None:
    evaluator = make()
    record = evaluate(evaluator)
    evaluator.folder.append(record)
    score, latency = record.score, record.latency
    assert score is not None
    assert latency is not None
    for share, enters in ((1.1, False), (0.9, True)):
        other = replace(latency, latency_ms=share * latency.latency_ms)
        assert evaluator.artifact_evaluator.would_enter_front(record, score, other, [record]) == enters


def test_final_training_continues_from_the_checkpoint_and_reads_all_figures_again(
    trained: Evaluator, trainings: list[Training]
) -> None:
    evaluator, found = trained, trained.folder.records()[0]
    kept = torch.load(evaluator.folder.path / "checkpoints" / f"{found.key}-3.pt", weights_only=True)
    (record,) = evaluator.train_final(found, epochs=2)
    assert (record.phase, record.status, record.trial, record.rung) == ("verified", "complete", 0, 3)
    assert record.epochs == 30 + 2
    (training,) = trainings
    assert training.epochs == 2
    assert all(torch.equal(kept[name], training.before[name]) for name in kept)
    file = evaluator.folder.path / record.model
    assert record.model != found.model
    assert (evaluator.folder.path / found.model).exists(), "the search's own file stays"
    assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record.score is not None
    assert record.score.accuracy == pytest.approx(accuracy(file, evaluator.data))
    assert record.test is not None
    assert record.test.n == 24


def test_calibration_uses_training_images_from_the_whole_set(
    make: Callable[..., Evaluator], faces: FaceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator, calibration_sets = make(), []
    quantize = registry.load("compressor", "quantize")
    rewrite_graph = type(quantize).rewrite_graph

    def recording(self: Any, graph: Any, context: CompressionContext) -> Any:
        calibration_sets.append(context.images)
        assert context.profile.activation_signed, "as the profile of the target says"
        return rewrite_graph(self, graph, context)

    monkeypatch.setattr(type(quantize), "rewrite_graph", recording)
    evaluate(evaluator, promote=never)
    untrained, final = calibration_sets
    assert (len(untrained), len(final)) == (UNTRAINED_CALIBRATION_IMAGES, len(faces.train))
    train = {image.tobytes() for image in faces.train.images}
    assert all(image.tobytes() in train for image in (*untrained, *final))
    assert (untrained[0] == faces.train.images[0]).all()
    assert (untrained[-1] == faces.train.images[-1]).all()
