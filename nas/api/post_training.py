"""Work on one trained model without a search: quantise, prune, and the sensitivity of its layers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Unpack

from nas.compression.quantization.calibration import RECOMMENDED_CALIBRATION
from nas.config import (
    PostTrainingKeywords,
    SearchConfig,
    make_config,
    takes_config_fields,
)
from nas.data.loading import load_data
from nas.errors import ConfigError
from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.timing import IDLE_WAIT_S
from nas.post_training.base import PostTrainingModel, PostTrainingResult
from nas.post_training.bits import parse_bits
from nas.post_training.file_timer import FileTimer
from nas.post_training.loading import default_out, is_onnx, load_model, refuse_training_fields
from nas.post_training.prune import PruningScope, prune_model
from nas.post_training.quantize import check_calibration, quantize_model
from nas.post_training.sensitivity import Sensitivity, measure_sensitivity
from nas.post_training.sensitivity_page import write_page
from nas.post_training.user_net import UserNet
from nas.targets.catalog import load_target


@takes_config_fields
def quantize(
    model: str | Path,
    *,
    bits: str | None = None,
    calibration: str = RECOMMENDED_CALIBRATION,
    target: str = "cpu",
    out: str | Path | None = None,
    classes: Sequence[str] = (),
    log: Callable[[str], None] = lambda _: None,
    **fields: Unpack[PostTrainingKeywords],
) -> PostTrainingResult:
    """Quantise one trained model without any training, in seconds, and compare the file with the model as given.

    Args:
        model: an ONNX file; a published network; or a factory "package.module:function" or "file.py:function".
        bits: bit-widths, 8, 16 or 32: of everything ("8"), or of units and layers ("stem=32,blocks.3.*=32"). What is
            left open gets the target's narrowest precision where that is measured to make the file faster.
        calibration: how the ranges of activations are found: entropy, mse, minmax or percentile.
        target: a target of `nas targets`, on which latency is measured or predicted.
        out: the file to write; by default NAME-quantised.onnx in the current folder.
        classes: class names in the order of the outputs of an ONNX file that does not name them.
        log: called with a line about each step.
        **fields: fields of the configuration; `weights` is required but for an ONNX file:

    Returns:
        Accuracy, latency and size before and after, and the path of the new file.

    Raises:
        ConfigError: a value is invalid, or the model cannot be read, fitted to the data or written.
        CandidateError: the file cannot be written, or a runtime does not compute from it what it says.
        UserError: a member of a family, a file or a package is missing.

    Examples:
        >>> result = nas.quantize("resnet8", weights="w.pt", bits="stem=32,head=32")  # doctest: +SKIP
        >>> result.path, result.latency_ratio  # doctest: +SKIP
        >>> nas.quantize("model.onnx", bits="4")
        Traceback (most recent call last):
        nas.errors.ConfigError: --bits must be 8, 16 or 32, alone or as NAME=BITS, but got '4'
    """
    request = parse_bits(bits)
    check_calibration(calibration)
    path = Path(out) if out else default_out(model, "quantised")
    loaded, timer = _load_for_post_training(model, target, classes, log, fields)
    with timer:
        return quantize_model(loaded, request=request, out=path, timer=timer, calibration=calibration, log=log)


def quantize_configured(
    config: SearchConfig, *, out: Path | None = None, log: Callable[[str], None] = lambda _: None
) -> PostTrainingResult:
    """Quantise the ONNX file that a configuration names as its model, as `quantize` does.

    Args:
        config: names the file, the data set and the target.
        out: the file to write; by default NAME-quantised.onnx in the current folder.
        log: called with a line about each step.

    Raises:
        ConfigError: the configuration asks for something that needs a training or a search.
        NasError: as `quantize`.
    """
    refuse_training_fields(config)
    loaded, timer = _load_configured(config, config.distillation.teacher_classes, log)
    path = out or default_out(str(config.search.model), "quantised")
    with timer:
        return quantize_model(loaded, request=parse_bits(None), out=path, timer=timer, log=log)


@takes_config_fields
def prune(
    model: str,
    *,
    sparsity: float = 0.5,
    epochs: float = 2.0,
    importance: str = "taylor",
    scope: PruningScope = "layer",
    steps: int = 1,
    target: str = "cpu",
    out: str | Path | None = None,
    log: Callable[[str], None] = lambda _: None,
    **fields: Unpack[PostTrainingKeywords],
) -> PostTrainingResult:
    """Remove channels of one trained model, fine-tune it briefly, and compare the file with the model as given.

    Args:
        model: a published network, or a factory "package.module:function" or "file.py:function".
        sparsity: share of the channels of every stage to remove, in (0, 1), or with the scope "global" share of the
            multiply-accumulates; widths stay on the target's grid.
        epochs: of the fine-tuning; 0 for none.
        importance: criterion that ranks the channels: taylor, l1, l2, bn_scale, similarity, ...
        scope: "layer" prunes each stage alike; "global" removes the least important channels of the whole net.
        steps: pruning steps, which share the epochs.
        target: a target of `nas targets`, on which latency is measured or predicted.
        out: the ONNX file to write; by default NAME-pruned.onnx in the current folder. The weights get the same name
            with the ending .pt.
        log: called with a line about each step.
        **fields: fields of the configuration; `weights` is required:

    Returns:
        Accuracy, latency and size before and after, and the paths of the new file and of its weights.

    Raises:
        ConfigError: a value is invalid, or the model cannot be pruned.
        CandidateError: the net cannot be trained or exported.
        UserError: a member of a family, a file or a package is missing.

    Examples:
        >>> result = nas.prune("resnet8", weights="w.pt", sparsity=0.5, epochs=2)  # doctest: +SKIP
        >>> result.weights, result.after.params  # doctest: +SKIP
        >>> nas.prune("model.onnx", weights="w.pt")
        Traceback (most recent call last):
        nas.errors.ConfigError: model.onnx has no source to train, and pruning needs training; give a factory
    """
    if is_onnx(model):
        raise ConfigError(
            f"{model} has no source to train, and pruning needs training; give a factory, or use nas quantize {model}"
        )
    path = Path(out) if out else default_out(model, "pruned")
    loaded, timer = _load_for_post_training(model, target, (), log, fields, prune_steps=steps)
    assert isinstance(loaded, UserNet)  # noqa: S101
    with timer:
        return prune_model(
            loaded, sparsity=sparsity, epochs=epochs, importance=importance, scope=scope, out=path, timer=timer, log=log
        )


def layer_sensitivity(
    config: SearchConfig, *, out: Path | None = None, log: Callable[[str], None] = lambda _: None
) -> tuple[Sensitivity, Path]:
    """Measure what pruning by half and INT8 cost and gain in each layer of a configuration's model, and write a page.

    Args:
        config: names the model, its weights, the data set and the target.
        out: the HTML file; by default NAME-sensitivity.html in the current folder.
        log: called with a line about each step.

    Returns:
        The figures, and the path of the page.

    Raises:
        ConfigError: the model is an ONNX file, has no weights, or cannot be compressed.
        CandidateError: the net cannot be exported or timed.
    """
    model = str(config.search.model)
    if is_onnx(model):
        raise ConfigError(f"sensitivity needs the source of a model, but {model} is an ONNX file; give a factory")
    loaded, timer = _load_configured(config, (), log)
    assert isinstance(loaded, UserNet)  # noqa: S101
    with timer:
        sensitivity = measure_sensitivity(loaded, timer=timer, log=log)
    return sensitivity, write_page(sensitivity, out or default_out(model, "sensitivity").with_suffix(".html"))


def _load_for_post_training(
    model: str | Path, target: str, classes: Sequence[str], log: Callable[[str], None], fields: PostTrainingKeywords,
    **others: Any,
) -> tuple[PostTrainingModel, FileTimer]:  # fmt: skip
    """A model with its data, and a timer for the target."""
    return _load_configured(make_config(model=str(model), target=target, **fields, **others), classes, log)


def _load_configured(
    config: SearchConfig, classes: Sequence[str], log: Callable[[str], None]
) -> tuple[PostTrainingModel, FileTimer]:
    """The model of a configuration with its data, and a timer for its target."""
    profile = load_target(config.search.target)
    log(f"read data set {config.search.dataset}")
    data = load_data(
        config.search.dataset, config.search.data, options=config.search.data_options,
        keep_duplicates=config.search.keep_duplicates, protocol=config.search.protocol,
    )  # fmt: skip
    log(f"read {config.search.model}")
    loaded = load_model(config, data, profile, classes=classes)
    return loaded, FileTimer(profile, reference_cache=reference_cache_path(), log=log, idle_wait_s=IDLE_WAIT_S)
