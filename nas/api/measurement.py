"""Latency of ONNX files on a target, and the functions behind `nas targets`: check, calibrate and list."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.errors import ConfigError, MeasureError
from nas.latency.costs import compute_costs
from nas.latency.latency import Latency
from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.timing import IDLE_WAIT_S, Shape, measure_on_device
from nas.latency.measured.timing_loop import TimingPlan
from nas.latency.measured.worker import TimingWorker
from nas.latency.predicted.learned_roofline import LearnedRoofline
from nas.latency.predicted.predict import load_calibration, predict_latency, predict_layers_ms
from nas.runtimes.base import Finding, Runtime
from nas.runtimes.disturbance import DRIFT_LIMIT
from nas.runtimes.onnx_input import read_input_shape
from nas.runtimes.onnx_trial import check_in_child
from nas.runtimes.reference_network import reference_path
from nas.targets.calibration import DEFAULT_N_MODELS, DEFAULT_SPACES, calibrate_target
from nas.targets.calibration_result import LatencyCalibration
from nas.targets.catalog import device_runtime, load_target, load_targets

HOST_RUNTIME = "onnxruntime"


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
    shapes = [read_input_shape(path) for path in paths]
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
        read_input_shape(Path(model))
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
