"""Structured pruning of one net in torch, with a short fine-tuning: one setting, without a search.

By default every stage loses the same share of its channels, on the target's grid, by one criterion; the widths, the
steps and the fine-tuning are those of a search's candidates. With the scope `global` all layers compete for a share of
the multiply-accumulates (MACs), so that each gets a width of its own.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import nn

from hw_profiles._base import FLOAT32_BITS
from nas import registry
from nas.candidate import Candidate
from nas.compression.pruning.global_ranking import prune_globally
from nas.compression.pruning.group_importance import bind_criterion
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
from nas.training.model_builder import IMPORTANCE_IMAGES
from nas.training.trainer import InitialWeights, Trainer, TrainingPhase

PruningScope = Literal["layer", "global"]
"""Where channels compete: within each layer, or over all layers."""
GIVEN_EPOCHS = 20.0
"""Epochs that given weights count as trained for: the learning rate of a short phase is a share of the full one."""


def prune_model(
    model: UserNet,
    *,
    sparsity: float,
    epochs: float,
    importance: str,
    scope: PruningScope = "layer",
    out: Path,
    timer: FileTimer,
    log: LogFunction = lambda _: None,
) -> PostTrainingResult:
    """Write a pruned form of a net as an ONNX file, and its weights beside it under the user's own names.

    Args:
        model: the net with trained weights, which are not changed.
        sparsity: share of the channels of every stage to remove, in (0, 1); with the scope `global`, share of the net's
            MACs to remove at least.
        epochs: of the fine-tuning, shared by the pruning steps; 0 for none.
        importance: criterion that ranks the channels.
        scope: whether channels compete within each layer, or over all of them.
        out: the ONNX file; the weights get its name with the ending .pt.
        timer: times files for the model's target.
        log: called with a line about each step.

    Raises:
        ConfigError: a value is out of its range, or no channel can be removed.
        UnknownMemberError: there is no such criterion.
        CandidateError: the net cannot be pruned, trained or exported.
    """
    _check_values(model, sparsity=sparsity, epochs=epochs, importance=importance, scope=scope)
    plan = BitsPlan(units=dict.fromkeys(model.units, FLOAT32_BITS))
    if scope == "global":
        net, candidate = _prune_globally(model, macs_share=1 - sparsity, importance=importance)
        net = _train(model, candidate, net, epochs, log)
    else:
        candidate = _pruned_candidate(model, sparsity=sparsity, importance=importance)
        net = _prune_and_train(model, candidate, epochs, log)
    log(f"write {out}")
    model.write_net(net, candidate, out, plan)
    weights = out.with_suffix(".pt")
    with whole_file(weights) as beside:
        torch.save(model.own_names(net.state_dict()), beside)
    what = "channels" if scope == "layer" else "MACs"
    detail = f"{sparsity:.0%} of the {what} removed by {importance}, {epochs:g} epochs, "
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        given = model.given_file(Path(folder))
        mean = "" if scope == "layer" else ", the mean share of its layers"
        note = f"channels by stage {format_widths(candidate)}{mean}"
        result = compare_files(model, given, out, plan=plan, timer=timer, log=log, detail=detail, notes=(note,))
    return replace(result, weights=weights)


def _check_values(model: UserNet, *, sparsity: float, epochs: float, importance: str, scope: PruningScope) -> None:
    if not 0 < sparsity < 1:
        raise ConfigError(f"--sparsity must be in (0, 1), but got {sparsity:g}; 0.5 removes half of the channels")
    if not 0 <= epochs < float("inf"):
        raise ConfigError(f"--epochs must be 0 or more, but got {epochs:g}")
    if scope not in get_args(PruningScope):
        raise ConfigError(f"--pruning-scope must be one of {', '.join(get_args(PruningScope))}, but got {scope!r}")
    if scope == "global" and model.config.compression.prune_steps > 1:
        raise ConfigError(
            f"--steps must be 1 with --pruning-scope global, but got {model.config.compression.prune_steps}"
        )
    registry.load("importance", importance).check_available()


def _pruned_candidate(model: UserNet, *, sparsity: float, importance: str) -> Candidate:
    genes = {f"sparsity.{stage}": sparsity for stage in model.space.stages}
    candidate = model.compression.decode(model.space, {**genes, "importance": importance})
    if not candidate.is_pruned:
        raise ConfigError(
            f"--sparsity {sparsity:g} must remove channels, but widths stay on a grid of "
            f"{model.profile.channel_multiple} on this target and none of {format_widths(candidate)} gets narrower; "
            "give a larger one"
        )
    return candidate


def _prune_globally(model: UserNet, *, macs_share: float, importance: str) -> tuple[nn.Module, Candidate]:
    """The pruned net before its fine-tuning, and a candidate whose widths are the mean shares of each stage."""
    context = model.builder.compression_context(model.candidate, IMPORTANCE_IMAGES)
    net = prune_globally(
        model.net, input_shape=context.input_shape, macs_share=macs_share,
        channel_multiple=model.profile.channel_multiple, score=bind_criterion(importance, model.net, context),
        kept=context.kept_layers,
    )  # fmt: skip
    shares = _kept_shares(model.net, net)
    widths = {stage: max(1, round(shares.get(stage, 1.0) * width)) for stage, width in model.candidate.widths.items()}
    return net.eval(), replace(model.candidate, pruned=widths)


def _kept_shares(whole: nn.Module, slim: nn.Module) -> dict[str, float]:
    """Share of the channels of each stage's convolutions that a pruned form keeps."""
    counts: dict[str, list[int]] = {}
    for name, layer in whole.named_modules():
        if isinstance(layer, nn.Conv2d):
            total = counts.setdefault(name.split(".")[0], [0, 0])
            total[0] += layer.out_channels
            total[1] += int(slim.get_submodule(name).out_channels)  # type: ignore[arg-type]
    return {stage: kept / before for stage, (before, kept) in counts.items()}


def _prune_and_train(model: UserNet, candidate: Candidate, epochs: float, log: LogFunction) -> nn.Module:
    """The net of a candidate after pruning in steps and fine-tuning, in eval mode."""
    if not epochs:
        with forked_rng(model.config.run.seed):
            return model.builder.narrow(candidate, model.net, candidate.pruned, is_final=True).eval()
    return _train(model, candidate, None, epochs, log)


def _train(model: UserNet, candidate: Candidate, net: nn.Module | None, epochs: float, log: LogFunction) -> nn.Module:
    """The net after its fine-tuning, in eval mode; None prunes the given net within the fine-tuning."""
    if net is not None and not epochs:
        return net
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
        trained, _ = trainer.train(candidate, net, phase, PhaseTimer())
    return trained.eval()
