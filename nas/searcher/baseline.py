"""Where a compression begins: the given net with trained weights, exported, scored and measured as it is.

Its record is the first of the run, `phase` "base" and trial -1, and the first row of every table. Its weights are kept
in the run folder, so the same command goes on from them.

    runs/NAME/base/weights.pt      the state dict that every candidate starts from
    runs/NAME/base/origin.json     where it came from
    runs/NAME/base/checkpoints/    on the way there, where it is trained first
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from nas.candidate import Candidate
from nas.errors import CandidateError, ConfigError
from nas.files import whole_file
from nas.pipeline import Evaluator
from nas.results.phase_timer import Clock
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.training.trainer import Cycle, Start

logger = logging.getLogger(__name__)

FINAL_STAGE = 1000
"""Its training counts as final: with teachers, if there are any."""
TRIAL = -1
"""Number of the uncompressed net in tables."""
STATE, FACTS = "base/weights.pt", "base/origin.json"
UNLIMITED = {"max_latency": None, "max_size": None, "min_accuracy": None}
PROBE_SPARSITY = 0.5
"""What a net must bear in every stage before anything is trained."""


def check(evaluator: Evaluator) -> None:
    """Refuse a net, or weights, before anything is spent on them: it is exported as it is and strongly compressed.

    Args:
        evaluator: whose space is the given net.

    Raises:
        ConfigError: the net cannot be exported or pruned, its weights are not those that the run was started with, or
            there are none and no epochs to train it.
    """
    _facts(evaluator)
    if (evaluator.folder.path / STATE).exists():
        return
    genes = evaluator.compression.choices(evaluator.space.stages)
    narrow = {gene.name: PROBE_SPARSITY for gene in genes if gene.name.startswith("sparsity.")}
    fewest = {gene.name: min(gene.options) for gene in genes if gene.name.startswith("bits.")}
    try:
        for picked in ({}, narrow | fewest):
            evaluator.draft(evaluator.compression.decode(evaluator.space, picked))
    except CandidateError as error:
        raise ConfigError(f"model {evaluator.config.model} cannot be compressed: {error}") from None


def begin(evaluator: Evaluator, *, stop: Callable[[], bool] | None = None) -> Start:
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
    clock = Clock()
    with folder.claim("base", wait=True):
        if not (folder.path / STATE).exists():
            net, epochs = _trained(evaluator, candidate, clock, stop)
            with whole_file(folder.path / STATE) as beside:
                torch.save(net.state_dict(), beside)
                folder.write(FACTS, json.dumps(_facts(evaluator) | {"epochs": epochs}, indent=1))
        state: Mapping[str, Tensor] = torch.load(folder.path / STATE, weights_only=True)
        epochs = float(json.loads((folder.path / FACTS).read_text())["epochs"])
        if not any(r.phase == "base" for r in folder.records()):
            record = _measured(evaluator, candidate, state, epochs, clock)
            folder.append(record)
            _doubt(evaluator, record)
    return Start(state=state, epochs=epochs or float(config.final_epochs))


def _facts(evaluator: Evaluator) -> dict[str, str | None]:
    """Where the weights come from, after making sure that the run was started with the same."""
    config, file = evaluator.config, evaluator.folder.path / FACTS
    digest = None
    if config.weights is not None:
        digest = hashlib.sha256(config.weights.read_bytes()).hexdigest()
    elif config.final_epochs == 0:
        raise ConfigError("a model without --weights is trained first, but --final-epochs is 0; give one of the two")
    if file.exists() and (before := json.loads(file.read_text())["weights"]) != digest:
        raise ConfigError(
            f"{evaluator.folder.path} was started with {_named(before)}, but now there are {_named(digest)}; "
            "give this run a --name of its own"
        )
    return {"model": config.model, "weights": digest}


def _named(digest: str | None) -> str:
    return "no weights" if digest is None else f"weights of digest {digest[:12]}"


def _trained(
    evaluator: Evaluator, candidate: Candidate, clock: Clock, stop: Callable[[], bool] | None
) -> tuple[nn.Module, float]:
    """The net with its weights, and the epochs it was trained here: none where weights were given."""
    config = evaluator.config
    if config.weights is not None:
        return evaluator.trainer.build(candidate, candidate.widths), 0.0
    evaluator = replace(evaluator, folder=RunFolder(evaluator.folder.path / "base"))
    net, rung = evaluator.trainer.resume(candidate)
    ends = [share * config.final_epochs for share in config.rungs]
    came = ends[rung - 1] if rung else 0.0
    while rung < len(ends) and not (stop is not None and stop()):
        what = f"the uncompressed net, part {rung + 1} of {len(ends)}"
        cycle = Cycle(what=what, stage=FINAL_STAGE + rung, epochs=ends[rung] - came, had=came)
        net, more = evaluator.trainer.train(candidate, net, cycle, clock, stop)
        came, rung = came + more, rung + 1
        if not (stop is not None and stop()):
            evaluator.trainer.save(candidate, net, rung)
    if net is None:
        raise ConfigError("there is no time to train the model; raise --budget or give --weights")
    return net, came


def _measured(
    evaluator: Evaluator, candidate: Candidate, state: Mapping[str, Tensor], epochs: float, clock: Clock
) -> Record:
    """The record of the uncompressed net; it may break every limit."""
    free = replace(evaluator, config=evaluator.config.model_copy(update=UNLIMITED))
    net = free.trainer.build(candidate, candidate.widths)
    net.load_state_dict(state)
    blank = replace(free.blank(candidate, TRIAL, "base"), epochs=epochs)
    if not epochs:  # given weights learned elsewhere
        blank = replace(blank, teacher="")
    try:
        return free.finish(blank, net, clock)
    except CandidateError as error:
        raise ConfigError(f"model {evaluator.config.model} cannot be compressed: {error}") from None


def _doubt(evaluator: Evaluator, record: Record) -> None:
    """Say so where given weights do hardly better than guessing: most often they mean other classes or pixels."""
    classes = evaluator.data.classes
    if evaluator.config.weights is not None and record.score and record.score.balanced_accuracy < 1.5 / len(classes):
        logger.warning(
            "the given weights do hardly better than guessing (balanced accuracy %.1f %%); its outputs must be in the "
            "order %s, and --mean, --std and --input-size must be those it was trained with",
            100 * record.score.balanced_accuracy, ", ".join(classes),
        )  # fmt: skip
