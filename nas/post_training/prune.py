"""Structured pruning of one net in torch, with a short fine-tuning: one setting, without a search.

Every stage loses the same share of its channels, on the target's grid, by one criterion; the widths, the steps and the
fine-tuning are those of a search's candidates.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from hw_profiles._base import FLOAT32_BITS
from nas import registry
from nas.candidate import Candidate
from nas.errors import ConfigError
from nas.files import whole_file
from nas.models.seeding import forked_rng
from nas.post_training.base import LogFunction, PostTrainingResult
from nas.post_training.bits import BitsPlan
from nas.post_training.file_timer import FileTimer
from nas.post_training.quantize import compare_files
from nas.post_training.user_net import UserNet
from nas.results.formatting import format_widths
from nas.results.phase_timer import PhaseTimer
from nas.results.run_folder import RunFolder
from nas.training.checkpoints import Checkpoints
from nas.training.trainer import InitialWeights, Trainer, TrainingPhase

GIVEN_EPOCHS = 20.0
"""Epochs that given weights count as trained for: the learning rate of a short phase is a share of the full one."""


def prune_model(
    model: UserNet,
    *,
    sparsity: float,
    epochs: float,
    importance: str,
    out: Path,
    timer: FileTimer,
    log: LogFunction = lambda _: None,
) -> PostTrainingResult:
    """Write a pruned form of a net as an ONNX file, and its weights beside it under the user's own names.

    Args:
        model: the net with trained weights, which are not changed.
        sparsity: share of the channels of every stage to remove, in (0, 1).
        epochs: of the fine-tuning, shared by the pruning steps; 0 for none.
        importance: criterion that ranks the channels.
        out: the ONNX file; the weights get its name with the ending .pt.
        timer: times files for the model's target.
        log: called with a line about each step.

    Raises:
        ConfigError: a value is out of its range, or no channel can be removed.
        UnknownMemberError: there is no such criterion.
        CandidateError: the net cannot be pruned, trained or exported.
    """
    candidate = _pruned_candidate(model, sparsity=sparsity, epochs=epochs, importance=importance)
    plan = BitsPlan(units=dict.fromkeys(model.units, FLOAT32_BITS))
    net = _prune_and_train(model, candidate, epochs, log)
    log(f"write {out}")
    model.write_net(net, candidate, out, plan)
    weights = out.with_suffix(".pt")
    with whole_file(weights) as beside:
        torch.save(model.own_names(net.state_dict()), beside)
    detail = f"{sparsity:.0%} of the channels removed by {importance}, {epochs:g} epochs, "
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        given = model.given_file(Path(folder))
        note = f"channels by stage {format_widths(candidate)}"
        result = compare_files(model, given, out, plan=plan, timer=timer, log=log, detail=detail, notes=(note,))
    return replace(result, weights=weights)


def _pruned_candidate(model: UserNet, *, sparsity: float, epochs: float, importance: str) -> Candidate:
    if not 0 < sparsity < 1:
        raise ConfigError(f"--sparsity must be in (0, 1), but got {sparsity:g}; 0.5 removes half of the channels")
    if not 0 <= epochs < float("inf"):
        raise ConfigError(f"--epochs must be 0 or more, but got {epochs:g}")
    registry.load("importance", importance)
    genes = {f"sparsity.{stage}": sparsity for stage in model.space.stages}
    candidate = model.compression.decode(model.space, {**genes, "importance": importance})
    if not candidate.is_pruned:
        raise ConfigError(
            f"--sparsity {sparsity:g} must remove channels, but widths stay on a grid of "
            f"{model.profile.channel_multiple} on this target and none of {format_widths(candidate)} gets narrower; "
            "give a larger one"
        )
    return candidate


def _prune_and_train(model: UserNet, candidate: Candidate, epochs: float, log: LogFunction) -> nn.Module:
    """The pruned net after its fine-tuning, in eval mode."""
    if not epochs:
        with forked_rng(model.config.run.seed):
            return model.builder.narrow(candidate, model.net, candidate.pruned, is_final=True).eval()
    config = model.config
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        (Path(folder) / "checkpoints").mkdir()
        checkpoints = Checkpoints(folder=RunFolder(Path(folder)), builder=model.builder, n_rungs=0)
        trainer = Trainer(
            training_config=config.training, compression_config=config.compression,
            distillation_config=config.distillation, run_config=config.run, builder=model.builder,
            checkpoints=checkpoints, data=model.data, log=log,
            initial_weights=InitialWeights(state_dict=model.net.state_dict(), epochs=GIVEN_EPOCHS),
        )  # fmt: skip
        phase = TrainingPhase(name="fine-tuning", index=0, epochs=epochs, previous_epochs=GIVEN_EPOCHS)
        net, _ = trainer.train(candidate, None, phase, PhaseTimer())
    return net.eval()
