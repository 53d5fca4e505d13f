"""Training of compressed candidates: checkpoints hold all that a compressor adds to a network."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nas.data.base import FaceData
from nas.results.phase_timer import PhaseTimer
from nas.training.branches import Branches
from nas.training.recipe import Recipe
from nas.training.trainer import TrainingPhase
from nas.training.training_run import TrainingRun
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
    ("kind", "has_branches"), [("dense", True), ("pruned", True), ("zeros", False), ("few_bits", False)]
)
def test_branches_are_fused_before_pruning_and_left_out_where_weights_are_shaped(
    kind: str, has_branches: bool, tmp_path: Path, faces: FaceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    evaluator = an_evaluator(
        tmp_path, faces, compressors=("prune_structured", "prune_unstructured", "few_bits"), epochs=1, branches=True
    )
    genes = KINDS.get(kind, {}) | ({"sparsity.stage2": 0.5} if kind == "pruned" else {})
    candidate = evaluator.compression.decode(evaluator.space, SMALL | genes)
    counts: list[int] = []
    seen = TrainingRun.step

    def step(self: TrainingRun, *args: Any) -> Any:
        counts.append(sum(isinstance(module, Branches) for module in self.net.modules()))
        return seen(self, *args)

    monkeypatch.setattr(TrainingRun, "step", step)

    found = evaluate(evaluator, candidate, promote=never)

    assert (found.status, found.reason) == ("complete", "")
    # The stem, a dense block, and two residual blocks of two convolutions.
    assert set(counts) == {6 if has_branches else 0}
    plain, _ = evaluator.checkpoints.load(candidate)
    with torch.random.fork_rng():
        expected = evaluator.builder.build_final_shape(candidate).state_dict()
    assert plain is not None
    assert {n: t.shape for n, t in plain.state_dict().items()} == {n: t.shape for n, t in expected.items()}


def test_options_of_the_configuration_reach_the_training_but_not_that_of_a_quantised_graph(
    tmp_path: Path, faces: FaceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    evaluator = an_evaluator(tmp_path, faces, branches=True, auxiliary_head=True, crops=True)
    candidate = evaluator.compression.decode(evaluator.space, SMALL)
    recipes: list[Recipe] = []
    seen = TrainingRun.step

    def step(self: TrainingRun, *args: Any) -> Any:
        recipes.append(self.recipe)
        assert (self.auxiliary_head is not None) == self.recipe.auxiliary_head
        return seen(self, *args)

    monkeypatch.setattr(TrainingRun, "step", step)
    net, _ = evaluator.trainer.train(candidate, None, TrainingPhase(name="", index=0, epochs=0.1), PhaseTimer())

    evaluator.trainer.fit_quantized(candidate, net, 0.1, PhaseTimer(), None)

    options = [(r.branches, r.auxiliary_head, r.augmentation.min_crop) for r in dict.fromkeys(recipes)]
    assert options == [(True, True, 7 / 8), (False, False, 7 / 8)]


@pytest.mark.parametrize(
    ("epochs", "previous_epochs", "lr_scale"), [(5.0, 0.0, 1.0), (60.0, 4.0, 1.0), (2.0, 3.0, 1 / 3), (0.1, 9.0, 0.2)]
)
def test_a_short_phase_after_a_long_one_has_a_lower_learning_rate(
    epochs: float, previous_epochs: float, lr_scale: float
) -> None:
    assert TrainingPhase(name="", index=0, epochs=epochs, previous_epochs=previous_epochs).lr_scale == pytest.approx(
        lr_scale
    )
