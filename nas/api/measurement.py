"""Latency of ONNX files on a target, of one image or of batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from nas.latency.predicted.predict import predict_latency, predict_layers_ms
from nas.runtimes.base import DeviceRuntime, Runtime
from nas.runtimes.onnx_input import read_checked_input, read_input_shape
from nas.runtimes.onnx_trial import check_in_child
from nas.targets.catalog import HOST_RUNTIME, check_local_runtime, device_runtime, load_target, local_runtime


def measure(
    model: str | Path,
    *,
    target: str = "cpu",
    runtime: str | None = None,
    runs: int = 300,
    threads: int | Sequence[int] = 1,
    batch: int | Sequence[int] = 1,
    layers: bool = False,
    energy: bool = False,
    pin: Sequence[int] = (),
) -> list[Latency]:
    """Measure or predict the latency of an ONNX file on a target.

    Args:
        model: a file with one input [N, C, H, W] whose C, H and W are fixed.
        target: a target of `nas targets`. On this machine or a board over ssh the file is measured; for other targets
            its latency is predicted, and a measurement on this machine follows.
        runtime: runtime on this machine, instead of the target's: onnxruntime, onnxruntime_cuda, onnxruntime_tensorrt
            or tensorrt; not for a board.
        runs: timed runs on this machine; a board times for two seconds.
        threads: threads of the runtime on this machine; several numbers give one measurement each.
        batch: images of one inference; several numbers give one measurement each, for `Latency.images_per_s`. A
            prediction is always of one image.
        layers: whether the first measurement also holds the time of each layer.
        energy: whether a board with power monitors also measures the energy.
        pin: CPU cores of this machine to run on; empty leaves the choice to the operating system.

    Returns:
        One latency for each number of threads and each batch; for a predicted target the prediction comes first.

    Raises:
        ConfigError: there is no such file, its input has another form, or a core cannot be pinned to.
        UnknownMemberError: there is no such target.
        MeasureError: the runtime rejects the file, or the board gives no latency that can be trusted.

    Examples:
        >>> predicted, measured = nas.measure("model.onnx", target="jetson", runs=20)
        >>> predicted.kind, predicted.device, measured.kind
        ('predicted', 'Jetson Orin Nano 8 GB (15W, GPU at 625 MHz)', 'measured')
    """
    (result,) = measure_all(
        [model],
        target=target,
        runtime=runtime,
        runs=runs,
        threads=threads,
        batch=batch,
        layers=layers,
        energy=energy,
        pin=pin,
    )
    if isinstance(result, MeasureError):
        raise result
    return result


def measure_all(
    models: Sequence[str | Path],
    *,
    target: str = "cpu",
    runtime: str | None = None,
    runs: int = 300,
    threads: int | Sequence[int] = 1,
    batch: int | Sequence[int] = 1,
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
        runtime: see `measure`.
        runs: see `measure`.
        threads: see `measure`.
        batch: see `measure`.
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
    paths, profile = [Path(model) for model in models], with_runtime(load_target(target), runtime)
    batches = (batch,) if isinstance(batch, int) else tuple(dict.fromkeys(batch))
    files = [_read_batches(path, batches) for path in paths]
    if device := device_runtime(profile):
        return _measure_on_device(files, batches, device, profile, layers=layers, energy=energy, log=log)
    here = local_runtime(profile)
    runtime_name = here.name if here is not None else HOST_RUNTIME
    for file in files:
        check_in_child(file.path, input_shape=(max(file.batches), *file.shape) if runtime_name == HOST_RUNTIME else ())
    where = profile.title if profile.local else "this machine"
    counts = [threads] if isinstance(threads, int) else list(threads)
    with TimingWorker(reference_cache=reference_cache_path(), cpu_cores=pin) as worker:
        columns = [_measure_on_host(worker, files, runtime_name, where, count, runs=runs, log=log) for count in counts]
    rows = [[latency for part in row for latency in part] for row in zip(*columns, strict=True)]
    if not profile.local:
        return [[_predict(path, profile, layers=layers), *row] for path, row in zip(paths, rows, strict=True)]
    if layers:
        for file, row in zip(files, rows, strict=True):
            row[0] = replace(row[0], layers=_layer_times(registry.load("runtime", runtime_name), file.path, file.shape))
    return list(rows)


def dry_run_commands(
    models: Sequence[str | Path],
    *,
    target: str,
    batch: int | Sequence[int] = 1,
    layers: bool = False,
    energy: bool = False,
    explain: bool = False,
) -> list[str]:
    """Every command that measuring these files on a board would run, in order; none is run.

    Raises:
        ConfigError: the target is not a board over ssh, there is no such file, or its input has another form.
    """
    profile = load_target(target)
    device = device_runtime(profile)
    if device is None or profile.local:
        raise ConfigError(f"a dry run needs a board over ssh, but {target!r} is none; see `nas targets add --help`")
    batches = (batch,) if isinstance(batch, int) else tuple(dict.fromkeys(batch))
    files = [_read_batches(Path(model), batches) for model in models]  # refused as by a measurement
    commands: list[str] = []
    for n_images in batches:
        if paths := [file.path for file in files if n_images in file.batches]:
            device.time_models(
                paths, profile, with_layers=layers, with_energy=energy, with_breakdown=explain, batch=n_images,
                dry_run_commands=commands,
            )  # fmt: skip
    return commands


def with_runtime(profile: HardwareProfile, word: str | None) -> HardwareProfile:
    """The profile of this machine with another runtime; `profile` itself without a word.

    Raises:
        ConfigError: there is no such runtime here, or the target is not this machine.
    """
    if word is None:
        return profile
    check_local_runtime(word)
    if not profile.local:
        raise ConfigError(f"--runtime is for a target that is this machine, but {profile.name!r} is none; use cpu")
    title = profile.title if word == profile.runtime else f"this machine by {word}"
    return replace(profile, runtime=word, title=title)


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file, (C, H, W) of its input, and the batches to time of those that were asked for."""

    path: Path
    shape: Shape
    batches: tuple[int, ...]
    note: str = ""


def _read_batches(path: Path, batches: tuple[int, ...]) -> _File:
    """The file with those batches that it can run: all, or the only one where its number of images is fixed.

    Raises:
        ConfigError: a batch is below 1, or the file can run none of them; else as `read_input_shape`.
    """
    if not batches or min(batches) < 1:
        raise ConfigError(
            f"batch must be numbers of images, 1 or more, but got {', '.join(map(str, batches)) or 'none'}"
        )
    fixed = read_checked_input(path).dims[:1]
    if fixed in ((), (0,)) or (fixed[0] not in batches and batches == (1,)):
        return _File(path=path, shape=read_input_shape(path), batches=batches)
    if fixed[0] not in batches:
        raise ConfigError(
            f"{path} runs {_count_images(fixed[0])} at once, fixed in the file, so batch must contain {fixed[0]}, but "
            f"got {', '.join(map(str, batches))}; or export it with an open first dimension"
        )
    left_out = [str(other) for other in batches if other != fixed[0]]
    note = f"batch {', '.join(left_out)} left out: the file runs {_count_images(fixed[0])} at once"
    shape = read_input_shape(path, batch=fixed[0])
    return _File(path=path, shape=shape, batches=fixed, note=note if left_out else "")


def _measure_on_device(
    files: Sequence[_File], batches: Sequence[int], device: DeviceRuntime, profile: HardwareProfile, *,
    layers: bool, energy: bool, log: Callable[[str], None],
) -> list[list[Latency] | MeasureError]:  # fmt: skip
    """Latencies of each file at its batches on a device; one connection for each batch."""
    found: list[list[Latency] | MeasureError] = [[] for _ in files]
    for batch in batches:
        at = [i for i, file in enumerate(files) if batch in file.batches and isinstance(found[i], list)]
        paths = [files[i].path for i in at]
        timed = measure_on_device(
            paths, device, profile, with_layers=layers, with_energy=energy, batch=batch, log=log
        ) if paths else []  # fmt: skip
        for i, result in zip(at, timed, strict=True):
            before = found[i]
            if isinstance(result, MeasureError) or isinstance(before, MeasureError):
                found[i] = result if isinstance(result, MeasureError) else before
            else:
                found[i] = [*before, _with_note(result, files[i].note)]
    return found


def _measure_on_host(
    worker: TimingWorker, files: Sequence[_File], runtime: str, where: str, threads: int, *, runs: int,
    log: Callable[[str], None],
) -> list[list[Latency]]:  # fmt: skip
    """Latencies of each file at its batches: interleaved on one thread; one after the other on several, which spin."""
    names = ", ".join(file.path.name for file in files)
    log(f"timing {names} on {threads} thread{'s' if threads > 1 else ''}")
    plan = TimingPlan(runs=runs, idle_wait_s=IDLE_WAIT_S)
    entries = [(file, batch) for file in files for batch in file.batches]
    device = where if threads == 1 else where.removesuffix(", one thread")
    groups = [entries] if threads == 1 else [[entry] for entry in entries]
    timed = [
        latency
        for group in groups
        for latency in worker.measure(
            [file.path for file, _ in group], runtime=runtime, device=device,
            input_shape=[file.shape for file, _ in group], plan=plan, threads=threads,
            batches=[batch for _, batch in group],
        )
    ]  # fmt: skip
    pairs = list(zip(entries, timed, strict=True))
    return [[_with_note(latency, file.note) for (owner, _), latency in pairs if owner is file] for file in files]


def _with_note(latency: Latency, note: str) -> Latency:
    return replace(latency, notes=(*latency.notes, note)) if note else latency


def _count_images(batch: int) -> str:
    return "1 image" if batch == 1 else f"{batch} images"


def _predict(path: Path, profile: HardwareProfile, *, layers: bool) -> Latency:
    costs = compute_costs(path)
    latency = predict_latency(costs, profile)
    return replace(latency, layers=predict_layers_ms(costs, profile) if layers else ())


def _layer_times(runtime: Runtime, path: Path, shape: tuple[int, int, int]) -> tuple[tuple[str, float], ...]:
    return tuple((layer.name, layer.ms) for layer in runtime.layer_times(path, input_shape=shape))
