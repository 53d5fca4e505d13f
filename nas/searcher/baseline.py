"""Where a compression begins: the given net with trained weights, exported, scored and measured as it is.

Its record is the first of the run, `phase` "base" and trial -1, and the first row of every table. Its weights are kept
in the run folder, so the same command goes on from them.

    runs/NAME/base/weights.pt      the state dict that every candidate starts from
    runs/NAME/base/origin.json     where it came from
    runs/NAME/base/checkpoints/    on the way there, where it is trained first
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from nas.candidate import Candidate
from nas.errors import CandidateError, ConfigError
from nas.files import file_sha256, whole_file
from nas.pipeline import Evaluator
from nas.results.phase_timer import PhaseTimer
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.training.trainer import InitialWeights, TrainingPhase

logger = logging.getLogger(__name__)

BASELINE_STAGE = 1000
"""Its training counts as final: with teachers, if there are any."""
BASELINE_TRIAL = -1
"""Number of the uncompressed net in tables."""
WEIGHTS_FILE, ORIGIN_FILE = "base/weights.pt", "base/origin.json"
NO_LIMITS = {"max_latency": None, "max_size": None, "min_accuracy": None}
PROBE_SPARSITY = 0.5
"""What a net must bear in every stage before anything is trained."""


def check_compressible(evaluator: Evaluator) -> None:
    """Refuse a net, or weights, before anything is spent on them: it is exported as it is and strongly compressed.

    Args:
        evaluator: whose space is the given net.

    Raises:
        ConfigError: the net cannot be exported or pruned, its weights are not those that the run was started with, or
            there are none and no epochs to train it.
    """
    _check_origin(evaluator)
    if (evaluator.folder.path / WEIGHTS_FILE).exists():
        return
    genes = evaluator.compression.choices(evaluator.space.stages)
    narrow = {gene.name: PROBE_SPARSITY for gene in genes if gene.name.startswith("sparsity.")}
    fewest = {gene.name: min(gene.options) for gene in genes if gene.name.startswith("bits.")}
    try:
        for picked in ({}, narrow | fewest):
            evaluator.evaluate_untrained(evaluator.compression.decode(evaluator.space, picked))
    except CandidateError as error:
        raise ConfigError(f"model {evaluator.config.search.model} cannot be compressed: {error}") from None


def prepare_baseline(evaluator: Evaluator, *, stop: Callable[[], bool] | None = None) -> InitialWeights:
    """The weights that every candidate starts from, after making sure of the record of the uncompressed net.

    Args:
        evaluator: whose space is the given net; `check` has passed it.
        stop: asked before each training step; True ends the training of the net there.

    Raises:
        ConfigError: the exported net does not compute what it should, or there is no time to train it.
    """
    folder, config = evaluator.folder, evaluator.config
    (folder.path / "base" / "checkpoints").mkdir(parents=True, exist_ok=True)
    candidate = evaluator.compression.decode(evaluator.space, {})
    clock = PhaseTimer()
    with folder.lock("base", wait=True):
        if not (folder.path / WEIGHTS_FILE).exists():
            net, epochs = _train_baseline(evaluator, candidate, clock, stop)
            with whole_file(folder.path / WEIGHTS_FILE) as beside:
                torch.save(net.state_dict(), beside)
                folder.write(ORIGIN_FILE, json.dumps(_check_origin(evaluator) | {"epochs": epochs}, indent=1))
        state: Mapping[str, Tensor] = torch.load(folder.path / WEIGHTS_FILE, weights_only=True)
        epochs = float(json.loads((folder.path / ORIGIN_FILE).read_text())["epochs"])
        if not any(r.phase == "base" for r in folder.records()):
            record = _evaluate_baseline(evaluator, candidate, state, epochs, clock)
            folder.append(record)
            _warn_if_near_chance(evaluator, record)
    return InitialWeights(state_dict=state, epochs=epochs or float(config.training.final_epochs))


def _check_origin(evaluator: Evaluator) -> dict[str, str | None]:
    """Where the weights come from, after making sure that the run was started with the same."""
    config, file = evaluator.config, evaluator.folder.path / ORIGIN_FILE
    digest = None
    if config.search.weights is not None:
        digest = file_sha256(config.search.weights)
    elif config.training.final_epochs == 0:
        raise ConfigError("a model without --weights is trained first, but --final-epochs is 0; give one of the two")
    if file.exists() and (before := json.loads(file.read_text())["weights"]) != digest:
        raise ConfigError(
            f"{evaluator.folder.path} was started with {_describe_weights(before)}, but now there are {_describe_weights(digest)}; "
            "give this run a --name of its own"
        )
    return {"model": config.search.model, "weights": digest}


def _describe_weights(digest: str | None) -> str:
    return "no weights" if digest is None else f"weights of digest {digest[:12]}"


def _train_baseline(
    evaluator: Evaluator, candidate: Candidate, phase_timer: PhaseTimer, stop: Callable[[], bool] | None
) -> tuple[nn.Module, float]:
    """The net with its weights, and the epochs it was trained here: none where weights were given."""
    config = evaluator.config
    if config.search.weights is not None:
        return evaluator.builder.build(candidate, candidate.widths), 0.0
    evaluator = replace(evaluator, folder=RunFolder(evaluator.folder.path / "base"))
    net, rung = evaluator.checkpoints.load(candidate)
    ends = [share * config.training.final_epochs for share in config.training.rungs]
    came = ends[rung - 1] if rung else 0.0
    while rung < len(ends) and not (stop is not None and stop()):
        what = f"the uncompressed net, part {rung + 1} of {len(ends)}"
        cycle = TrainingPhase(name=what, index=BASELINE_STAGE + rung, epochs=ends[rung] - came, previous_epochs=came)
        net, more = evaluator.trainer.train(candidate, net, cycle, phase_timer, stop)
        came, rung = came + more, rung + 1
        if not (stop is not None and stop()):
            evaluator.checkpoints.save(candidate, net, rung)
    if net is None:
        raise ConfigError("there is no time to train the model; raise --budget or give --weights")
    return net, came


def _evaluate_baseline(
    evaluator: Evaluator, candidate: Candidate, state: Mapping[str, Tensor], epochs: float, phase_timer: PhaseTimer
) -> Record:
    """The record of the uncompressed net; it may break every limit."""
    free = replace(evaluator, config=evaluator.config.with_fields(**NO_LIMITS))
    net = free.builder.build(candidate, candidate.widths)
    net.load_state_dict(state)
    blank = replace(free.empty_record(candidate, BASELINE_TRIAL, "base"), epochs=epochs)
    if not epochs:  # given weights learned elsewhere
        blank = replace(blank, teacher="")
    try:
        return free.finalize(blank, net, phase_timer)
    except CandidateError as error:
        raise ConfigError(f"model {evaluator.config.search.model} cannot be compressed: {error}") from None


def _warn_if_near_chance(evaluator: Evaluator, record: Record) -> None:
    """Say so where given weights do hardly better than guessing: most often they mean other classes or pixels."""
    classes = evaluator.data.classes
    if (
        evaluator.config.search.weights is not None
        and record.score
        and record.score.balanced_accuracy < 1.5 / len(classes)
    ):
        logger.warning(
            "the given weights do hardly better than guessing (balanced accuracy %.1f %%); its outputs must be in the "
            "order %s, and --mean, --std and --input-size must be those it was trained with",
            100 * record.score.balanced_accuracy, ", ".join(classes),
        )  # fmt: skip
