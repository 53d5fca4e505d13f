"""What a notebook and the command line call: search, compress, export, measure and its kin, each one call."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any


from hw_profiles._base import HardwareProfile
from nas import registry
from nas.config import SearchConfig, make_config
from nas.errors import ConfigError, MeasureError
from nas.latency.costs import compute_costs
from nas.latency.estimate import Latency
from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.timing import IDLE_WAIT_S, Shape, measure_on_device
from nas.latency.measured.timing_loop import TimingPlan
from nas.latency.measured.worker import TimingWorker
from nas.latency.predicted.learned_roofline import LearnedRoofline
from nas.latency.predicted.predict import load_calibration, predict_latency, predict_layers_ms
from nas.reporting.bundle import export_model
from nas.results.record import Record
from nas.results.run import Run, load_run
from nas.results.run_folder import RunFolder
from nas.results.selection import pick
from nas.results.status import SearchStatus
from nas.runtimes.base import Finding, Runtime
from nas.runtimes.disturbance import DRIFT_LIMIT
from nas.runtimes.onnx_input import read_onnx_input
from nas.runtimes.reference_network import reference_path
from nas.searcher.searcher import search as run_search
from nas.targets.calibration import DEFAULT_N_MODELS, DEFAULT_SPACES, LatencyCalibration, calibrate_target
from nas.targets.catalog import device_runtime, load_target, load_targets

HOST_RUNTIME = "onnxruntime"


def search(
    config: SearchConfig | None = None, *, on_status: Callable[[SearchStatus], None] | None = None, **fields: Any
) -> Run:
    """Search, train the front in full, and return the run. The same call again goes on where it stopped.

    Args:
        config: what to search for; None makes it from `fields`.
        on_status: told the status about once a second.
        **fields: fields of `nas.SearchConfig`, for example `target="jetson", max_latency="5ms", budget="30m"`.

    Raises:
        ConfigError: a field does not fit, both forms are given, or the folder holds a run of another configuration.
        UserError: a member, a file or a package is missing.
    """
    if config is not None and fields:
        raise ConfigError(f"give a configuration or fields, not both, but got both: {', '.join(fields)}")
    return Run(run_search(config or make_config(**fields), on_status=on_status))


def compress(
    model: str,
    *,
    weights: str | Path | None = None,
    on_status: Callable[[SearchStatus], None] | None = None,
    **fields: Any,
) -> Run:
    """Search how a net that someone has can be compressed: its architecture stays, candidates start from its weights.

    Args:
        model: a word of `nas.models.zoo`, or a factory "package.module:function" that returns a torch module.
        weights: file of its state dict; None trains the net first.
        on_status: told the status about once a second.
        **fields: further fields of `nas.SearchConfig`, for example `dataset="fer2013", target="jetson"`.

    Raises:
        ConfigError: a field does not fit, the net cannot be compressed (the layer is named), or the folder holds a run
            of another configuration.
        UserError: a member, a file or a package is missing.
    """
    return search(make_config(model=model, weights=Path(weights) if weights else None, **fields), on_status=on_status)


def export(
    run: Run | RunFolder | str | Path, which: int | str | Record | None = None, *, out: str | Path | None = None
) -> Path:
    """Write a candidate's model.onnx, model card, golden pair and record into a folder.

    Args:
        run: the run, or its folder.
        which: number of a trial, first digits of a key, or a record; None takes the knee of the front.
        out: the folder to write; None takes `exported/RUN-TRIAL`.

    Returns:
        The path of model.onnx.

    Raises:
        ConfigError: there is no such run or candidate, or its file is not the one that was measured.
    """
    if isinstance(run, str | Path):
        run = load_run(run)
    folder = run.folder if isinstance(run, Run) else run
    if which is None:
        which = pick(folder.records(), folder.config.search.objectives).record
    name = which.trial if isinstance(which, Record) else which
    return export_model(folder, which, Path(out) if out else Path("exported") / f"{folder.path.name}-{name}")


def measure(
    model: str | Path, *, target: str = "cpu", runs: int = 300, threads: int | Sequence[int] = 1, layers: bool = False,
    energy: bool = False, pin: Sequence[int] = (),
) -> list[Latency]:  # fmt: skip
    """The latency of an ONNX file on a target.

    Args:
        model: a file with one input [N, C, H, W] whose C, H and W are fixed.
        target: a word of `nas targets`. Where it is this machine or a board over ssh, the file is measured; otherwise
            its latency is predicted, and a measurement on this machine follows.
        runs: timed runs on this machine; a board times for two seconds.
        threads: threads of the runtime on this machine; several numbers give a measurement each.
        layers: whether the first measurement carries each layer's time too.
        energy: whether a board with power monitors measures its energy too.
        pin: cores of this machine that may be used; none leaves that to the system.

    Raises:
        ConfigError: there is no such file, its input is of another form, or a core cannot be pinned to.
        UnknownMemberError: there is no such target.
        MeasureError: the runtime refuses the file, or the board gives no figure that can be trusted.
    """
    (found,) = measure_all([model], target=target, runs=runs, threads=threads, layers=layers, energy=energy, pin=pin)
    if isinstance(found, MeasureError):
        raise found
    return found


def measure_all(
    models: Sequence[str | Path], *, target: str = "cpu", runs: int = 300, threads: int | Sequence[int] = 1,
    layers: bool = False, energy: bool = False, pin: Sequence[int] = (), log: Callable[[str], None] = lambda _: None,
) -> list[list[Latency] | MeasureError]:  # fmt: skip
    """The latencies of several files on a target, as `measure` gives them; a board serves all by one connection.

    Files on this machine are timed in a process of their own, side by side where there are several, so that whatever
    else the machine does meets all of them alike.

    Returns:
        For each file its measurements, or why the board gave none.

    Raises:
        ConfigError: there is no such file, its input is of another form, or a core cannot be pinned to.
        UnknownMemberError: there is no such target.
        MeasureError: the runtime refuses a file, or there is no way to the board.
    """
    paths, profile = [Path(model) for model in models], load_target(target)
    shapes = [_input_shape(path) for path in paths]
    if device := device_runtime(profile):
        found = measure_on_device(paths, device, profile, with_layers=layers, with_energy=energy, log=log)
        return [m if isinstance(m, MeasureError) else [m] for m in found]
    word = profile.runtime if profile.local else HOST_RUNTIME
    where = profile.title if profile.local else "this machine"
    counts = [threads] if isinstance(threads, int) else list(threads)
    with TimingWorker(reference_cache=reference_cache_path(), cpu_cores=pin) as timer:
        here = [_measure_on_host(timer, paths, shapes, word, where, count, runs, log) for count in counts]
    rows = [list(row) for row in zip(*here, strict=True)]
    if not profile.local:
        return [[_predict(path, profile, layers=layers), *row] for path, row in zip(paths, rows, strict=True)]
    if layers:
        runtime = registry.load("runtime", word)
        for path, shape, row in zip(paths, shapes, rows, strict=True):
            row[0] = replace(row[0], layers=_layer_times(runtime, path, shape))
    return list(rows)


def dry_run_commands(
    models: Sequence[str | Path], *, target: str, layers: bool = False, energy: bool = False
) -> list[str]:
    """Every command that measuring these files on a board would run, in order; none is run.

    Raises:
        ConfigError: the target is no board over ssh.
    """
    profile = load_target(target)
    device = device_runtime(profile)
    if device is None or profile.local:
        raise ConfigError(f"a dry run needs a board over ssh, but {target!r} is none; see `nas targets add --help`")
    found: list[str] = []
    device.time_models(
        [Path(model) for model in models], profile, with_layers=layers, with_energy=energy, dry_run_commands=found
    )
    return found


def check_target(name: str) -> list[Finding]:
    """Look whether a target can be measured, down to the reference network's latency on it.

    Raises:
        ConfigError: the target is neither a board over ssh nor this machine.
        MeasureError: there is no way to it.
    """
    profile = load_target(name)
    device = device_runtime(profile)
    if device is None and not profile.local:
        raise ConfigError(f"{name!r} is predicted, there is nothing to check; a board of yours: nas targets add --help")
    findings = device.probe_device(profile) if device else []
    (found,) = measure_all([reference_path()], target=name)
    if isinstance(found, MeasureError):
        return [*findings, Finding(name="reference network", value=str(found), is_ok=False)]
    latency = found[0]
    steady = max(abs(latency.drift or 0.0), latency.slowdown or 0.0) <= DRIFT_LIMIT
    value = (
        f"{latency.latency_ms:.4f} ms [{latency.low_ms:.4f}, {latency.high_ms:.4f}], drift {latency.drift or 0:+.1%}"
    )
    value += f", {latency.slowdown:.0%} slower than at its best" if latency.slowdown is not None else ""
    return [*findings, Finding(name="reference network", value=value, is_ok=steady)]


def calibrate(
    target: str, *, nets: int = DEFAULT_N_MODELS, spaces: Sequence[str] = DEFAULT_SPACES, input_shape: tuple[int, int, int] = (1, 48, 48),
    seed: int = 0, log: Callable[[str], None] = lambda _: None,
) -> LatencyCalibration:  # fmt: skip
    """Measure a few nets on a target and learn it from them; later predictions for it go by what was learned.

    The same call again goes on where an interrupted one stopped.

    Args:
        target: a word of `nas targets`: this machine, or a board of yours.
        nets: how many to measure, 10 or more; a fifth of them is held out, to say how good the model is.
        spaces: search spaces that they are drawn from.
        input_shape: (C, H, W) of the nets' input.
        seed: of the draw.
        log: told what is being done.

    Raises:
        ConfigError: fewer than 10 nets are asked for, or there is no way to measure on the target.
        UnknownMemberError: there is no such target or space.
        MeasureError: there is no way to the device now, or fewer than 10 nets could be measured.
    """
    return calibrate_target(target, n_models=nets, spaces=spaces, input_shape=input_shape, seed=seed, log=log)


def calibrations() -> dict[str, LearnedRoofline]:
    """The targets that were calibrated, and what was learned of each."""
    found = {name: load_calibration(profile) for name, profile in load_targets().items()}
    return {name: model for name, model in found.items() if model}


def _measure_on_host(
    timer: TimingWorker, paths: Sequence[Path], shapes: Sequence[Shape], runtime: str, where: str, threads: int, runs: int,
    log: Callable[[str], None],
) -> list[Latency]:  # fmt: skip
    """Files on this machine: on one thread side by side, on several one after the other, as their threads spin."""
    log(f"timing {', '.join(path.name for path in paths)} on {threads} thread{'s' if threads > 1 else ''}")
    plan = TimingPlan(runs=runs, idle_wait_s=IDLE_WAIT_S)
    if threads == 1:
        return timer.measure(paths, runtime=runtime, device=where, input_shape=shapes, plan=plan)
    device = where.removesuffix(", one thread")
    return [
        timer.measure([path], runtime=runtime, device=device, input_shape=[shape], plan=plan, threads=threads)[0]
        for path, shape in zip(paths, shapes, strict=True)
    ]


def _predict(path: Path, profile: HardwareProfile, *, layers: bool) -> Latency:
    counted = compute_costs(path)
    found = predict_latency(counted, profile)
    return replace(found, layers=predict_layers_ms(counted, profile) if layers else ())


def _layer_times(runtime: Runtime, path: Path, shape: tuple[int, int, int]) -> tuple[tuple[str, float], ...]:
    return tuple((layer.name, layer.ms) for layer in runtime.layer_times(path, input_shape=shape))


def _input_shape(path: Path) -> tuple[int, int, int]:
    try:
        entry = read_onnx_input(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} must be an ONNX file, but there is none; `nas export` writes one") from None
    except Exception as error:  # protobuf's errors share no public base
        raise ConfigError(f"{path} must be an ONNX file, but cannot be read as one: {error}") from None
    if not entry.is_single_image:
        found = list(entry.dims) if len(entry.names) == 1 and entry.dims else f"{len(entry.names)} inputs"
        raise ConfigError(f"{path} must have one input [N, C, H, W] with fixed C, H and W, but has {found}")
    return entry.dims[1], entry.dims[2], entry.dims[3]
