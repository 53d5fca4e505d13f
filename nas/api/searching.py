"""Searches: for architectures, and for how far a given model can be compressed."""

from collections.abc import Callable
from typing import Unpack

from nas.api.baselines import evaluate_baselines
from nas.config import (
    CompressKeywords,
    SearchConfig,
    SearchKeywords,
    TrainKeywords,
    make_config,
    takes_config_fields,
    training_config,
)
from nas.data.base import FaceData
from nas.errors import ConfigError
from nas.post_training.loading import is_onnx
from nas.results.run import Run
from nas.results.run_folder import RunFolder
from nas.results.status import SearchStatus
from nas.searcher.searcher import search as run_search


@takes_config_fields
def search(
    config: SearchConfig | None = None,
    *,
    on_status: Callable[[SearchStatus], None] | None = None,
    **fields: Unpack[SearchKeywords],
) -> Run:
    """Search for the Pareto front, train its members in full, and return the run.

    The same call resumes an interrupted search, and continues a finished one where more trials or time are given.

    Args:
        config: what to search; None makes it from the fields below.
        on_status: called with the status about once a second.
        **fields: fields of the configuration:

    Returns:
        The run, whose folder holds the ONNX files, the records and an HTML report.

    Raises:
        ConfigError: a field is invalid, a configuration and fields are both given, or the run folder holds a run of
            another configuration.
        UserError: a member of a family, a file or a package is missing.

    Examples:
        >>> run = nas.search(target="jetson", space="plain", trials=20, max_latency="2ms")  # doctest: +SKIP
        >>> run.front[["trial", "accuracy", "latency_ms"]]  # doctest: +SKIP
        >>> nas.search(target="jetson", trials="many")
        Traceback (most recent call last):
        nas.errors.ConfigError: trials must be a valid integer, but got 'many'
    """
    if config is not None and fields:
        raise ConfigError(f"a configuration or fields must be given, not both, but got both: {', '.join(fields)}")
    config = config or make_config(**fields)
    paths = config.search.baseline

    def add_baselines(folder: RunFolder, data: FaceData, log: Callable[[str], None]) -> None:
        evaluate_baselines(folder, paths, data=data, log=log)

    return Run(run_search(config, on_status=on_status, add_baselines=add_baselines if paths else None))


@takes_config_fields
def compress(
    model: str, *, on_status: Callable[[SearchStatus], None] | None = None, **fields: Unpack[CompressKeywords]
) -> Run:
    """Search how far a given model can be compressed. Its architecture stays; candidates start from its weights.

    Args:
        model: name of a published network (see `nas.models.zoo`), or a factory "package.module:function" that returns
            a torch module.
        on_status: called with the status about once a second.
        **fields: fields of the configuration; without `weights` the model is trained first:

    Returns:
        The run, whose folder holds the ONNX files, the records and an HTML report.

    Raises:
        ConfigError: a field is invalid, the model cannot be compressed (the message names the layer), or the run folder
            holds a run of another configuration.
        UserError: a member of a family, a file or a package is missing.

    Examples:
        >>> run = nas.compress("resnet18", weights="w.pt", dataset="fer2013", data="fer2013.csv")  # doctest: +SKIP
        >>> run.baseline.size_bytes, run.front["size_bytes"].min()  # doctest: +SKIP
        >>> nas.compress("resnet18", std=0)
        Traceback (most recent call last):
        nas.errors.ConfigError: std must be greater than 0, but got 0
    """
    if is_onnx(model):
        raise ConfigError(f"{model} has no source to train, so there is nothing to search; use nas.quantize")
    return search(make_config(model=model, **fields), on_status=on_status)


@takes_config_fields
def train(
    model: str,
    *,
    epochs: float = 100.0,
    on_status: Callable[[SearchStatus], None] | None = None,
    **fields: Unpack[TrainKeywords],
) -> Run:
    """Train one model whole, in one schedule, from teachers where there are any; export, score and measure it.

    The same call resumes an interrupted training, to the same weights. The run is a teacher for others, and
    `nas.compress` with the same model and name goes on from its weights.

    Args:
        model: name of a published network (see `nas.models.zoo`), a factory "package.module:function" that returns a
            torch module, or a candidate of a run, "RUN:TRIAL" or "RUN:KEY", whose layers and channels are trained in
            FP32 from fresh weights.
        epochs: passes over the training images.
        on_status: called with the status about once a second.
        **fields: fields of the configuration:

    Returns:
        The run; its only record is `baseline`, the trained model.

    Raises:
        ConfigError: a field is invalid, the model cannot be exported (the message names the layer), or the run folder
            holds a run of another configuration.
        UserError: a member of a family, a file or a package is missing.

    Examples:
        >>> run = nas.train("resnet10", epochs=100, dataset="fer2013", data="fer2013.csv")  # doctest: +SKIP
        >>> run.baseline.score.accuracy  # doctest: +SKIP
        >>> nas.train("resnet10", epochs=0)
        Traceback (most recent call last):
        nas.errors.ConfigError: epochs must be positive, but got 0
    """
    if not epochs > 0:
        raise ConfigError(f"epochs must be positive, but got {epochs:g}")
    if is_onnx(model):
        raise ConfigError(f"{model} has no source to train; give the function that builds the net")
    return search(training_config(make_config(model=model, **fields), epochs), on_status=on_status)
