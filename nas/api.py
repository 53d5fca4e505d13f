"""Functions that a notebook and the command line call: search, compress, quantize, prune, pick, export and others.

Each is one call. Beside them are the functions behind `nas targets`: check, calibrate and list calibrations.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.compression.quantization.calibration import RECOMMENDED_CALIBRATION
from nas.config import (
    CompressKeywords,
    PostTrainingKeywords,
    SearchConfig,
    SearchKeywords,
    make_config,
    takes_config_fields,
)
from nas.data.loading import load_data
from nas.errors import ConfigError, MeasureError, one_line
from nas.latency.costs import compute_costs
from nas.latency.latency import Latency
from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.timing import IDLE_WAIT_S, Shape, measure_on_device
from nas.latency.measured.timing_loop import TimingPlan
from nas.latency.measured.worker import TimingWorker
from nas.latency.predicted.learned_roofline import LearnedRoofline
from nas.latency.predicted.predict import load_calibration, predict_latency, predict_layers_ms
from nas.post_training.base import PostTrainingModel, PostTrainingResult
from nas.post_training.bits import parse_bits
from nas.post_training.file_timer import FileTimer
from nas.post_training.loading import default_out, is_onnx, load_model, refuse_training_fields
from nas.post_training.prune import PruningScope, prune_model
from nas.post_training.quantize import check_calibration, quantize_model
from nas.post_training.sensitivity import Sensitivity, measure_sensitivity
from nas.post_training.sensitivity_page import write_page
from nas.post_training.user_net import UserNet
from nas.reporting.bundle import export_model
from nas.results.compression_effect import find_baseline
from nas.results.front import pareto_front
from nas.results.front_table import table_rows
from nas.results.record import Record
from nas.results.run import Run, load_run
from nas.results.run_folder import RunFolder
from nas.results.selection import Selection, make_limits
from nas.results.selection import pick as pick_record
from nas.results.status import SearchStatus
from nas.runtimes.base import Finding, Runtime
from nas.runtimes.disturbance import DRIFT_LIMIT
from nas.runtimes.onnx_input import read_onnx_input
from nas.runtimes.onnx_trial import check_in_child
from nas.runtimes.reference_network import reference_path
from nas.searcher.searcher import search as run_search
from nas.targets.calibration import DEFAULT_N_MODELS, DEFAULT_SPACES, calibrate_target
from nas.targets.calibration_result import LatencyCalibration
from nas.targets.catalog import device_runtime, load_target, load_targets

HOST_RUNTIME = "onnxruntime"
TABLE_COLUMNS = (
    "run", "trial", "phase", "params", "nonzero_params", "compression_ratio", "size_bytes", "packed_bytes",
    "size_ratio", "macs", "accuracy", "test_accuracy", "latency_ms", "latency_kind",
    "latency_disturbed", "frames_per_s",
)  # fmt: skip
"""Columns of `table`."""


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
    return Run(run_search(config or make_config(**fields), on_status=on_status))


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


def pick(
    run: Run | RunFolder | str | Path,
    *,
    max_latency: float | str | None = None,
    max_size: float | str | None = None,
    min_accuracy: float | None = None,
    knee: bool = False,
) -> Selection:
    """Choose one member of a run's Pareto front, and say why.

    - Without limits, or with `knee`: the knee of the front within the limits.
    - With an upper limit (latency, size): the most accurate member within the limits.
    - With `min_accuracy` alone: the fastest member that reaches it.

    Args:
        run: the run, or its folder.
        max_latency: upper limit on the target in milliseconds, or text with a unit such as "5ms".
        max_size: upper limit of the file in bytes, or text with a unit such as "500kB".
        min_accuracy: lower limit on the selection split, 0..1.
        knee: take the knee of the members within the limits.

    Returns:
        The member's `record`, the `reason`, and its neighbours on the front, `faster` and `slower`; `nas.export` takes
        it as it is.

    Raises:
        ConfigError: there is no such run, its front is empty, a limit is invalid, or no member is within the limits;
            the message then names the nearest one.

    Examples:
        >>> selection = nas.pick("runs/synthetic-plain-jetson", max_latency="3ms")
        >>> selection.record.trial, selection.reason
        (1, 'the most accurate within the limits, of 3 on the verified front')
    """
    folder = _folder_of(run)
    limits = make_limits(max_latency=max_latency, max_size=max_size, min_accuracy=min_accuracy)
    return pick_record(folder.records(), folder.config.search.objectives, limits=limits, knee=knee)


def export(
    run: Run | RunFolder | str | Path,
    which: int | str | Record | Selection | None = None,
    *,
    out: str | Path | None = None,
) -> Path:
    """Write one candidate as a folder with model.onnx, model card, golden pair and record.

    Args:
        run: the run, or its folder.
        which: number of a trial, first digits of a key, a record, or what `pick` returned; None takes the knee of the
            front.
        out: the folder to write; None takes `exported/RUN-TRIAL`.

    Returns:
        Path of model.onnx.

    Raises:
        ConfigError: there is no such run or candidate, or its file is not the one that was measured.

    Examples:
        >>> nas.export("runs/synthetic-plain-jetson", 8, out="my_model")
        PosixPath('my_model/model.onnx')
    """
    folder = _folder_of(run)
    if which is None:
        which = pick(folder)
    if isinstance(which, Selection):
        which = which.record
    name = which.trial if isinstance(which, Record) else which
    return export_model(folder, which, Path(out) if out else Path("exported") / f"{folder.path.name}-{name}")


def table(*runs: Run | RunFolder | str | Path) -> pd.DataFrame:
    """Size, accuracy and speed of the networks of one or several runs.

    Args:
        *runs: the runs, or their folders.

    Returns:
        One row for the uncompressed model of each run, if there is one, and one for each member of its front, fastest
        first. Columns:

        - `run`, `trial` and `phase`: name of the run, number of the trial, and "base", "search" or "verified".
        - `params`, `nonzero_params` and `compression_ratio`: weights, those that are not zero, and the uncompressed
          model's weights divided by the latter.
        - `size_bytes`, `packed_bytes` and `size_ratio`: size of the file, its size under zlib, and the uncompressed
          file's size divided by the file's.
        - `macs`: multiply-accumulate operations of one inference.
        - `accuracy` and `test_accuracy`: on the selection split and on the test split, 0..1.
        - `latency_ms`, `latency_kind` and `frames_per_s`: milliseconds of one inference on the target, "measured" or
          "predicted", and 1000 / `latency_ms`, which leaves out the time to find the face.
        - `latency_disturbed`: whether the machine was busy while the latency was measured.

        A figure that is unknown is None or NaN.

    Raises:
        ConfigError: there is no such run.

    Examples:
        >>> costs = nas.table("runs/synthetic-plain-jetson")
        >>> costs[["trial", "accuracy", "latency_ms", "frames_per_s"]]
           trial  accuracy  latency_ms  frames_per_s
        0      0      0.50         1.0        1000.0
        1      1      0.65         2.0         500.0
        2      2      0.80         4.0         250.0
    """
    return pd.DataFrame([row for run in runs for row in _cost_rows(_folder_of(run))], columns=list(TABLE_COLUMNS))


def measure(
    model: str | Path,
    *,
    target: str = "cpu",
    runs: int = 300,
    threads: int | Sequence[int] = 1,
    layers: bool = False,
    energy: bool = False,
    pin: Sequence[int] = (),
) -> list[Latency]:
    """Measure or predict the latency of an ONNX file on a target.

    Args:
        model: a file with one input [N, C, H, W] whose C, H and W are fixed.
        target: a target of `nas targets`. On this machine or a board over ssh the file is measured; for other targets
            its latency is predicted, and a measurement on this machine follows.
        runs: timed runs on this machine; a board times for two seconds.
        threads: threads of the runtime on this machine; several numbers give one measurement each.
        layers: whether the first measurement also holds the time of each layer.
        energy: whether a board with power monitors also measures the energy.
        pin: CPU cores of this machine to run on; empty leaves the choice to the operating system.

    Returns:
        One latency for each number of threads; for a predicted target the prediction comes first.

    Raises:
        ConfigError: there is no such file, its input has another form, or a core cannot be pinned to.
        UnknownMemberError: there is no such target.
        MeasureError: the runtime rejects the file, or the board gives no latency that can be trusted.

    Examples:
        >>> predicted, measured = nas.measure("model.onnx", target="jetson", runs=20)
        >>> predicted.kind, predicted.device, measured.kind
        ('predicted', 'Jetson Orin Nano 8 GB (15W, GPU at 625 MHz)', 'measured')
    """
    (result,) = measure_all([model], target=target, runs=runs, threads=threads, layers=layers, energy=energy, pin=pin)
    if isinstance(result, MeasureError):
        raise result
    return result


def measure_all(
    models: Sequence[str | Path],
    *,
    target: str = "cpu",
    runs: int = 300,
    threads: int | Sequence[int] = 1,
    layers: bool = False,
    energy: bool = False,
    pin: Sequence[int] = (),
    log: Callable[[str], None] = lambda _: None,
) -> list[list[Latency] | MeasureError]:
    """Measure or predict the latencies of several files on a target, as `measure` does; a board needs one connection.

    Files on this machine are timed in a process of their own. Several files are interleaved, so that other load on the
    machine affects all of them alike.

    Args:
        models: the files, and further arguments as in `measure`.
        target: see `measure`.
        runs: see `measure`.
        threads: see `measure`.
        layers: see `measure`.
        energy: see `measure`.
        pin: see `measure`.
        log: called with a line about each step.

    Returns:
        For each file its latencies, or the reason why the board gave none.

    Raises:
        ConfigError: there is no such file, its input has another form, or a core cannot be pinned to.
        UnknownMemberError: there is no such target.
        MeasureError: the runtime rejects a file, or there is no connection to the board.
    """
    paths, profile = [Path(model) for model in models], load_target(target)
    shapes = [_input_shape(path) for path in paths]
    if device := device_runtime(profile):
        results = measure_on_device(paths, device, profile, with_layers=layers, with_energy=energy, log=log)
        return [result if isinstance(result, MeasureError) else [result] for result in results]
    runtime_name = profile.runtime if profile.local else HOST_RUNTIME
    for path, shape in zip(paths, shapes, strict=True):
        check_in_child(path, input_shape=(1, *shape) if runtime_name == HOST_RUNTIME else ())
    where = profile.title if profile.local else "this machine"
    counts = [threads] if isinstance(threads, int) else list(threads)
    with TimingWorker(reference_cache=reference_cache_path(), cpu_cores=pin) as worker:
        columns = [
            _measure_on_host(worker, paths, shapes, runtime_name, where, count, runs=runs, log=log) for count in counts
        ]
    rows = [list(row) for row in zip(*columns, strict=True)]
    if not profile.local:
        return [[_predict(path, profile, layers=layers), *row] for path, row in zip(paths, rows, strict=True)]
    if layers:
        runtime = registry.load("runtime", runtime_name)
        for path, shape, row in zip(paths, shapes, rows, strict=True):
            row[0] = replace(row[0], layers=_layer_times(runtime, path, shape))
    return list(rows)


def dry_run_commands(
    models: Sequence[str | Path], *, target: str, layers: bool = False, energy: bool = False
) -> list[str]:
    """Every command that measuring these files on a board would run, in order; none is run.

    Raises:
        ConfigError: the target is not a board over ssh, there is no such file, or its input has another form.
    """
    profile = load_target(target)
    device = device_runtime(profile)
    if device is None or profile.local:
        raise ConfigError(f"a dry run needs a board over ssh, but {target!r} is none; see `nas targets add --help`")
    for model in models:  # refused as by a measurement
        _input_shape(Path(model))
    commands: list[str] = []
    device.time_models(
        [Path(model) for model in models], profile, with_layers=layers, with_energy=energy, dry_run_commands=commands
    )
    return commands


def check_target(name: str) -> list[Finding]:
    """Check whether a target can be measured, down to the latency of the reference network on it.

    Returns:
        The findings, in the order of the checks; the last one is the reference network's latency.

    Raises:
        ConfigError: the target is neither a board over ssh nor this machine.
        MeasureError: there is no connection to it.
    """
    profile = load_target(name)
    device = device_runtime(profile)
    if device is None and not profile.local:
        raise ConfigError(
            f"only a measured target can be checked, but {name!r} is predicted; for a board see "
            "`nas targets add --help`"
        )
    findings = device.probe_device(profile) if device else []
    (result,) = measure_all([reference_path()], target=name)
    if isinstance(result, MeasureError):
        return [*findings, Finding(name="reference network", value=str(result), is_ok=False)]
    latency = result[0]
    is_steady = max(abs(latency.drift or 0.0), latency.slowdown or 0.0) <= DRIFT_LIMIT
    value = (
        f"{latency.latency_ms:.4f} ms [{latency.low_ms:.4f}, {latency.high_ms:.4f}], drift {latency.drift or 0:+.1%}"
    )
    value += f", {latency.slowdown:.0%} slower than at its best" if latency.slowdown is not None else ""
    return [*findings, Finding(name="reference network", value=value, is_ok=is_steady)]


def calibrate(
    target: str,
    *,
    nets: int = DEFAULT_N_MODELS,
    spaces: Sequence[str] = DEFAULT_SPACES,
    input_shape: tuple[int, int, int] = (1, 48, 48),
    seed: int = 0,
    log: Callable[[str], None] = lambda _: None,
) -> LatencyCalibration:
    """Measure random networks on a target and fit a latency model to them, which later predictions for it use.

    The same call resumes an interrupted calibration.

    Args:
        target: a target of `nas targets`: this machine, or a board over ssh.
        nets: number of networks to measure, 10 or more; 20 % of them are held out to validate the model.
        spaces: search spaces that the networks are drawn from.
        input_shape: (C, H, W) of their input.
        seed: random seed of the draw.
        log: called with a line about each step.

    Raises:
        ConfigError: `nets` is below 10, or the target cannot be measured.
        UnknownMemberError: there is no such target or space.
        MeasureError: there is no connection to the device now, or fewer than 10 networks could be measured.
    """
    return calibrate_target(target, n_models=nets, spaces=spaces, input_shape=input_shape, seed=seed, log=log)


def calibrations() -> dict[str, LearnedRoofline]:
    """Latency models of the calibrated targets, by target."""
    models = {name: load_calibration(profile) for name, profile in load_targets().items()}
    return {name: model for name, model in models.items() if model}


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
    data = load_data(config.search.dataset, config.search.data, options=config.search.data_options)
    log(f"read {config.search.model}")
    loaded = load_model(config, data, profile, classes=classes)
    return loaded, FileTimer(profile, reference_cache=reference_cache_path(), log=log, idle_wait_s=IDLE_WAIT_S)


def _folder_of(run: Run | RunFolder | str | Path) -> RunFolder:
    if isinstance(run, str | Path):
        run = load_run(run)
    return run.folder if isinstance(run, Run) else run


def _cost_rows(folder: RunFolder) -> list[dict[str, object]]:
    """Rows of `table` for one run: its uncompressed model, then its front."""
    records = folder.records()
    baseline = find_baseline(records)
    members = [*([baseline] if baseline else []), *pareto_front(records, folder.config.search.objectives)]
    return [
        row
        | {"run": folder.path.name, "frames_per_s": 1000 / row["latency_ms"] if row["latency_ms"] else None}
        | {"latency_disturbed": record.latency.is_disturbed if record.latency else None}
        for record, row in zip(members, table_rows(members, baseline=baseline), strict=True)
    ]


def _measure_on_host(
    worker: TimingWorker, paths: Sequence[Path], shapes: Sequence[Shape], runtime: str, where: str, threads: int, *,
    runs: int, log: Callable[[str], None],
) -> list[Latency]:  # fmt: skip
    """Latencies on this machine: interleaved on one thread; one file after the other on several, which spin."""
    log(f"timing {', '.join(path.name for path in paths)} on {threads} thread{'s' if threads > 1 else ''}")
    plan = TimingPlan(runs=runs, idle_wait_s=IDLE_WAIT_S)
    if threads == 1:
        return worker.measure(paths, runtime=runtime, device=where, input_shape=shapes, plan=plan)
    device = where.removesuffix(", one thread")
    return [
        worker.measure([path], runtime=runtime, device=device, input_shape=[shape], plan=plan, threads=threads)[0]
        for path, shape in zip(paths, shapes, strict=True)
    ]


def _predict(path: Path, profile: HardwareProfile, *, layers: bool) -> Latency:
    costs = compute_costs(path)
    latency = predict_latency(costs, profile)
    return replace(latency, layers=predict_layers_ms(costs, profile) if layers else ())


def _layer_times(runtime: Runtime, path: Path, shape: tuple[int, int, int]) -> tuple[tuple[str, float], ...]:
    return tuple((layer.name, layer.ms) for layer in runtime.layer_times(path, input_shape=shape))


def _input_shape(path: Path) -> tuple[int, int, int]:
    """(C, H, W) of the file's only input."""
    try:
        entry = read_onnx_input(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} must be an ONNX file, but there is none; `nas export` writes one") from None
    except Exception as error:  # protobuf's errors share no public base
        raise ConfigError(f"{path} must be an ONNX file, but cannot be read as one: {one_line(error)}") from None
    if not entry.is_single_image:
        raise ConfigError(
            f"{path} must have one input [N, C, H, W] with fixed C, H and W and one image at a time, but has "
            f"{entry.form}; export it so"
        )
    return entry.dims[1], entry.dims[2], entry.dims[3]
