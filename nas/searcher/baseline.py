"""Baseline of a compression: the user's model with trained weights, exported, scored and measured uncompressed.

Its record is the first of the run, with `phase` "base" and trial -1, and the first row of every table. Its weights are
stored in the run folder, so that the same command resumes with them.

    runs/NAME/base/weights.pt      the state dict that every candidate starts from
    runs/NAME/base/origin.json     model, digest of the weights that were given, epochs of the training here
    runs/NAME/base/checkpoints/    checkpoints of its training, where it comes without weights
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from nas.errors import CandidateError, ConfigError
from nas.evaluation.evaluator import Evaluator
from nas.files import file_sha256
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.onnx_export.parity import check_logits
from nas.onnx_export.rewrite_check import probe_images, randomised
from nas.pipeline import Step
from nas.results.phase_timer import PhaseTimer
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.workforce import Steps
from nas.training.checkpoints import write_state_dict
from nas.training.trainer import InitialWeights, ShouldStop, TrainingPhase

logger = logging.getLogger(__name__)

BASELINE_STAGE = 1000
"""Index of its first training phase, beyond all rungs: it counts as final training, so teachers take part in it."""
BASELINE_TRIAL = -1
"""Trial number of the uncompressed model in tables."""
WEIGHTS_FILE, ORIGIN_FILE = "base/weights.pt", "base/origin.json"
BASELINE_FILES = ("base/*", "base/checkpoints/*")
NO_LIMITS = {"max_latency": None, "max_size": None, "max_memory": None, "max_dla_fallback": None, "min_accuracy": None}
PROBE_SPARSITY = 0.5
"""Sparsity in every stage at which a model must export before anything is trained."""


class _Origin(BaseModel):
    """Form of `ORIGIN_FILE`."""

    model: str
    weights: str | None
    epochs: float = 0.0


def check_compressible(evaluator: Evaluator) -> Steps:
    """Refuse a model, or its weights, before time is spent on it: it must export uncompressed and strongly compressed.

    Args:
        evaluator: of the run; its space is that of the model.

    Raises:
        ConfigError: the model cannot be exported or pruned, its weights are not those that the run was started with, or
            there are neither weights nor epochs to train it.
    """
    _check_origin(evaluator)
    if not (evaluator.folder.path / WEIGHTS_FILE).exists():
        try:
            yield Step(name="check", function=check_exports, arguments={})
        except CandidateError as error:
            raise ConfigError(f"model {evaluator.config.search.model} cannot be compressed: {error}") from None


def check_exports(evaluator: Evaluator, *, stop: ShouldStop | None = None) -> None:
    """Export a model uncompressed, and pruned and quantised as strongly as the search may.

    Raises:
        CandidateError: it cannot be exported or pruned, or its file computes something else.
    """
    genes = evaluator.compression.choices(evaluator.space.stages)
    pruned = {gene.name: PROBE_SPARSITY for gene in genes if gene.name.startswith("sparsity.")}
    quantized = {gene.name: min(gene.options) for gene in genes if gene.name.startswith("bits.")}
    _check_written_file(evaluator)
    for picked in ({}, pruned | quantized):
        evaluator.evaluate_untrained(evaluator.compression.decode(evaluator.space, picked))


def _check_written_file(evaluator: Evaluator) -> None:
    """Prove on random weights that the file of the uncompressed model computes in a runtime what torch computes.

    Raises:
        CandidateError: it cannot be exported, or its logits differ.
    """
    shape, classes = evaluator.data.input_shape, evaluator.data.classes
    candidate = evaluator.compression.decode(evaluator.space, {})
    net = evaluator.space.build(candidate.architecture, input_shape=shape, classes=len(classes))
    graph = fold(randomised(net), input_shape=shape)
    path = evaluator.folder.path / "models" / f".proof-{os.getpid()}.onnx"
    try:
        export_onnx(graph, path, input_shape=shape, classes=classes, metadata={})
        images = probe_images(shape).numpy().astype(np.uint8)
        check_logits(graph, path, images, load=evaluator.host_runtime.load)
    finally:
        path.unlink(missing_ok=True)


def prepare_baseline(evaluator: Evaluator) -> Steps:
    """Train the model where it has no weights, and append its record. Whatever is complete is not repeated.

    Args:
        evaluator: of the run; `check_compressible` has accepted its space.

    Raises:
        ConfigError: the exported file fails the parity gate, or there is no time to train the model.
    """
    folder = evaluator.folder
    (folder.path / "base" / "checkpoints").mkdir(parents=True, exist_ok=True)
    origin = json.dumps(_check_origin(evaluator), indent=1)
    if not (folder.path / ORIGIN_FILE).exists():
        folder.write(ORIGIN_FILE, origin)
    seconds: Mapping[str, float] = {}
    if not (folder.path / WEIGHTS_FILE).exists():
        seconds = yield Step(name="training", function=train_baseline, arguments={}, files=BASELINE_FILES)
    if not any(r.phase == "base" for r in folder.records()):
        try:
            arguments = {"seconds": seconds}
            record = yield Step(
                name="evaluation", function=evaluate_baseline, arguments=arguments, files=BASELINE_FILES, measures=True
            )
        except CandidateError as error:
            raise ConfigError(f"model {evaluator.config.search.model} cannot be compressed: {error}") from None
        folder.append(record)
        _warn_if_near_chance(evaluator, record)


def read_initial_weights(evaluator: Evaluator) -> InitialWeights:
    """The weights that candidates start from, once `prepare_baseline` has ended."""
    folder, training = evaluator.folder, evaluator.config.training
    state: Mapping[str, Tensor] = torch.load(folder.path / WEIGHTS_FILE, weights_only=True)
    epochs = float(folder.read_json(ORIGIN_FILE, _Origin)["epochs"])
    return InitialWeights(state_dict=state, epochs=epochs or training.model_epochs)


def _check_origin(evaluator: Evaluator) -> dict[str, str | None]:
    """Model and digest of its weights, after verifying that the run was started with the same."""
    config, file = evaluator.config, evaluator.folder.path / ORIGIN_FILE
    digest = None
    if config.search.weights is not None:
        digest = file_sha256(config.search.weights)
    elif config.training.final_epochs == 0:
        raise ConfigError("a model without --weights is trained first, but --final-epochs is 0; give one of the two")
    if file.exists() and (before := evaluator.folder.read_json(ORIGIN_FILE, _Origin)["weights"]) != digest:
        raise ConfigError(
            f"{evaluator.folder.path} was started with {_describe_weights(before)}, but now there are "
            f"{_describe_weights(digest)}; give this run a --name of its own"
        )
    return {"model": config.search.model, "weights": digest}


def _describe_weights(digest: str | None) -> str:
    return "no weights" if digest is None else f"weights of digest {digest[:12]}"


def train_baseline(evaluator: Evaluator, *, stop: ShouldStop | None) -> Mapping[str, float]:
    """Train the model for the final epochs in one schedule, into `WEIGHTS_FILE`; given weights are taken as they are.

    Args:
        evaluator: its folder holds the state of the training so far.
        stop: called before each training step; True ends the training there.

    Returns:
        Seconds by phase.

    Raises:
        ConfigError: there is no time to train the model.
        StepPausedError: the same call goes on.
    """
    config, folder, phase_timer = evaluator.config, evaluator.folder, PhaseTimer()
    candidate = evaluator.compression.decode(evaluator.space, {})
    if config.search.weights is not None:
        _write_weights(folder, evaluator.builder.build(candidate, candidate.widths), epochs=0.0)
        return phase_timer.seconds
    if stop is not None and stop():
        raise ConfigError("there is no time to train the model; raise --budget or give --weights")
    part = replace(evaluator, folder=RunFolder(folder.path / "base"))
    phase = TrainingPhase(name="training", index=BASELINE_STAGE, epochs=config.training.model_epochs)
    net, epochs = part.trainer.train(candidate, None, phase, phase_timer, stop)
    _write_weights(folder, net, epochs=epochs)
    part.checkpoints.forget_states(candidate)
    return phase_timer.seconds


def _write_weights(folder: RunFolder, net: nn.Module, *, epochs: float) -> None:
    origin = folder.read_json(ORIGIN_FILE)
    folder.write(ORIGIN_FILE, json.dumps(origin | {"epochs": epochs}, indent=1))
    write_state_dict(folder.path / WEIGHTS_FILE, net)


def evaluate_baseline(evaluator: Evaluator, *, seconds: Mapping[str, float], stop: ShouldStop | None = None) -> Record:
    """The record of the uncompressed model, which may violate every constraint.

    Raises:
        CandidateError: the exported file fails the parity gate.
    """
    unlimited = replace(evaluator, config=evaluator.config.with_fields(**NO_LIMITS))
    weights = read_initial_weights(evaluator)
    epochs = float(evaluator.folder.read_json(ORIGIN_FILE, _Origin)["epochs"])
    candidate = evaluator.compression.decode(evaluator.space, {})
    net = unlimited.builder.build(candidate, candidate.widths)
    net.load_state_dict(weights.state_dict)
    record = replace(unlimited.empty_record(candidate, BASELINE_TRIAL, "base"), epochs=epochs)
    if not epochs:  # weights that were given were not distilled from this run's teachers
        record = replace(record, teacher="")
    return unlimited.finalize(record, net, PhaseTimer(dict(seconds)))


def _warn_if_near_chance(evaluator: Evaluator, record: Record) -> None:
    """Warn where given weights score near chance: most often they expect other classes or other pixel values."""
    classes = evaluator.data.classes
    if (
        evaluator.config.search.weights is not None
        and record.score
        and record.score.balanced_accuracy < 1.5 / len(classes)
    ):
        logger.warning(
            "the given weights score near chance (balanced accuracy %.1f %%); the model's outputs must be in the order "
            "%s, and --mean, --std and --input-size must be those of its training",
            100 * record.score.balanced_accuracy, ", ".join(classes),
        )  # fmt: skip
