"""Training of compressed candidates: checkpoints hold all that a compressor adds to a network."""

from pathlib import Path

import pytest
import torch

from nas.data.base import FaceData
from nas.results.phase_timer import PhaseTimer
from nas.training.trainer import TrainingPhase
from search_spaces._base import Value
from tests.tiny_evaluator import SMALL, an_evaluator, evaluate, never
from tests.tiny_search import make_quick

FOUR_BITS: dict[str, Value] = {f"weight_bits.stage{i}": 4 for i in (1, 2, 3)}
KINDS: dict[str, dict[str, Value]] = {
    "few_bits": FOUR_BITS,
    "pruned few_bits": FOUR_BITS | {"sparsity.stage2": 0.5},
    "zeros": {"zeros.stage2": 0.5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_candidate_continues_to_the_final_training_from_its_checkpoint(
    kind: str, tmp_path: Path, faces: FaceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    evaluator = an_evaluator(
        tmp_path, faces, compressors=("prune_structured", "prune_unstructured", "few_bits"), epochs=1
    )
    candidate = evaluator.compression.decode(evaluator.space, SMALL | KINDS[kind])
    assert candidate.settings
    found = evaluate(evaluator, candidate, promote=never)
    assert (found.status, found.reason, found.rung) == ("complete", "", 1)
    net, rung = evaluator.checkpoints.load(candidate)
    assert rung == 1
    assert net is not None
    (verified,) = evaluator.train_final(found, epochs=1)
    assert (verified.phase, verified.status, verified.reason) == ("verified", "complete", "")


def test_low_bit_weights_are_rounded_from_full_precision_ones(
    tmp_path: Path, faces: FaceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    evaluator = an_evaluator(tmp_path, faces, compressors=("few_bits",))
    candidate = evaluator.compression.decode(evaluator.space, SMALL | FOUR_BITS)
    net, _ = evaluator.trainer.train(candidate, None, TrainingPhase(name="", index=0, epochs=0.1), PhaseTimer())
    full = {name: tensor for name, tensor in net.named_buffers() if name.endswith("full_weight")}
    assert len(full) > 3
    for name, tensor in full.items():
        rounded = net.get_parameter(name.replace("full_weight", "weight"))
        assert len(torch.unique(rounded[0])) <= 16
        assert not torch.equal(rounded, tensor)


@pytest.mark.parametrize(
    ("epochs", "previous_epochs", "lr_scale"), [(5.0, 0.0, 1.0), (60.0, 4.0, 1.0), (2.0, 3.0, 1 / 3), (0.1, 9.0, 0.2)]
)
def test_a_short_phase_after_a_long_one_has_a_lower_learning_rate(
    epochs: float, previous_epochs: float, lr_scale: float
) -> None:
    assert TrainingPhase(name="", index=0, epochs=epochs, previous_epochs=previous_epochs).lr_scale == pytest.approx(
        lr_scale
    )
