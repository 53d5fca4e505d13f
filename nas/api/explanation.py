"""What a latency does not tell: where the time of an inference goes, and how much memory it takes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from nas import registry
from nas.api.measurement import with_runtime
from nas.errors import ExportError, MeasureError
from nas.latency.costs import compute_costs
from nas.latency.memory import Memory
from nas.latency.predicted.breakdown import explain_prediction
from nas.runtimes.base import DeviceTiming, Runtime
from nas.runtimes.onnx_input import read_input_shape
from nas.runtimes.onnx_trial import check_in_child
from nas.runtimes.time_breakdown import TimeBreakdown
from nas.targets.catalog import HOST_RUNTIME, device_runtime, load_target, local_runtime


def explain(
    models: Sequence[str | Path],
    *,
    target: str = "cpu",
    runtime: str | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> list[list[TimeBreakdown] | MeasureError]:
    """Explain where the time of one inference of each file goes on a target.

    Args:
        models: files with one input [N, C, H, W] whose C, H and W are fixed.
        target: a target of `nas targets`. A board over ssh makes two further runs; this machine profiles the nodes; for
            other targets the prediction is taken apart, and this machine follows.
        runtime: runtime on this machine, instead of the target's; see `nas.measure`.
        log: called with a line about each step.

    Returns:
        For each file its breakdowns, or the reason why the board gave none.

    Raises:
        ConfigError: there is no such file, or its input has another form.
        UnknownMemberError: there is no such target.
        MeasureError: the runtime rejects a file or cannot tell, or there is no connection to the board.
    """
    paths, profile = [Path(model) for model in models], with_runtime(load_target(target), runtime)
    shapes = [read_input_shape(path) for path in paths]
    if device := device_runtime(profile):
        timings = device.time_models(paths, profile, with_breakdown=True, log=log)
        return [_breakdown_of(timing, device.name) for timing in timings]
    here: Runtime = local_runtime(profile) or registry.load("runtime", HOST_RUNTIME)
    found: list[list[TimeBreakdown] | MeasureError] = []
    for path, shape in zip(paths, shapes, strict=True):
        log(f"profiling {path.name}")
        if here.name == HOST_RUNTIME:
            check_in_child(path, input_shape=(1, *shape))
        predicted = [] if profile.local else [explain_prediction(path.name, compute_costs(path), profile)]
        found.append([*predicted, here.time_breakdown(path, input_shape=shape)])
    return found


def read_memories(models: Sequence[str | Path], *, target: str = "cpu") -> dict[str, Memory | str]:
    """Memory of each file by its name, read off its graph, or in words why the graph does not tell.

    Args:
        models: files that were measured on the target.
        target: a target of `nas targets`. What was sent to a board was not tried here yet, and is first.

    Raises:
        UnknownMemberError: there is no such target.
    """
    is_untried = device_runtime(load_target(target)) is not None
    return {str(model): _read_memory(Path(model), is_untried=is_untried) for model in models}


def _read_memory(path: Path, *, is_untried: bool) -> Memory | str:
    try:
        if is_untried:
            check_in_child(path)
        return compute_costs(path).memory or "its graph was not read"
    except (ExportError, MeasureError) as error:
        return str(error)


def _breakdown_of(timing: DeviceTiming | MeasureError, runtime: str) -> list[TimeBreakdown] | MeasureError:
    if isinstance(timing, MeasureError):
        return timing
    if timing.breakdown is None:
        return MeasureError(f"{runtime} cannot tell where its time goes; measure without --explain")
    return [timing.breakdown]
