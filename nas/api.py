"""What a notebook and the command line call: search, export and measure, each one call."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from nas import registry
from nas.bundle import export_model
from nas.config import SearchConfig, make_config
from nas.costs import costs
from nas.errors import ConfigError
from nas.latency.roofline import predict
from nas.measure import Measurement
from nas.measure import measure as measure_file
from nas.pick import pick
from nas.records import Record, RunFolder
from nas.run import Run, load_run
from nas.search import Status
from nas.search import search as run_search
from nas.targets import target as target_profile

HOST_RUNTIME = "onnxruntime"


def search(config: SearchConfig | None = None, *, watch: Callable[[Status], None] | None = None, **fields: Any) -> Run:
    """Search, train the front in full, and return the run. The same call again goes on where it stopped.

    Args:
        config: what to search for; None makes it from `fields`.
        watch: told the status about once a second.
        **fields: fields of `nas.SearchConfig`, for example `target="jetson", max_latency="5ms", budget="30m"`.

    Raises:
        ConfigError: a field does not fit, both forms are given, or the folder holds a run of another configuration.
        UserError: a member, a file or a package is missing.
    """
    if config is not None and fields:
        raise ConfigError(f"give a configuration or fields, not both, but got both: {', '.join(fields)}")
    return Run(run_search(config or make_config(**fields), watch=watch))


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
        which = pick(folder.records(), folder.config.objectives).record
    name = which.trial if isinstance(which, Record) else which
    return export_model(folder, which, Path(out) if out else Path("exported") / f"{folder.path.name}-{name}")


def measure(model: str | Path, *, target: str = "cpu", runs: int = 300, threads: int = 1) -> list[Measurement]:
    """The latency of an ONNX file on a target.

    Args:
        model: a file with one input [N, C, H, W] whose C, H and W are fixed.
        target: a word of `nas targets`. Where it is this machine, the file is measured; otherwise its latency is
            predicted, and a measurement on this machine follows.
        runs: timed runs.
        threads: threads of the runtime.

    Raises:
        ConfigError: there is no such file, or its input is of another form.
        UnknownMemberError: there is no such target.
        MeasureError: the runtime refuses the file.
    """
    path, profile = Path(model), target_profile(target)
    shape = _input_shape(path)
    runtime = registry.load("runtime", profile.runtime if profile.local else HOST_RUNTIME)
    device = profile.title if profile.local else "this machine"
    host = measure_file(path, runtime, device=device, input_shape=shape, runs=runs, threads=threads)
    return [host] if profile.local else [predict(costs(path), profile), host]


def _input_shape(path: Path) -> tuple[int, int, int]:
    try:
        inputs = onnx.load(str(path), load_external_data=False).graph.input
    except FileNotFoundError:
        raise ConfigError(f"{path} must be an ONNX file, but there is none; `nas export` writes one") from None
    except Exception as error:  # protobuf's errors share no public base
        raise ConfigError(f"{path} must be an ONNX file, but cannot be read as one: {error}") from None
    dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
    if len(dims) != 4 or min(dims[1:]) < 1:
        found = dims or f"{len(inputs)} inputs"
        raise ConfigError(f"{path} must have one input [N, C, H, W] with fixed C, H and W, but has {found}")
    return dims[1], dims[2], dims[3]
