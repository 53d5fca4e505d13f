"""Finished and running searches: pick a member of the front, export it, compare runs in a table, write a report."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from hw_profiles._base import HardwareProfile
from nas.api.baselines import evaluate_baselines
from nas.errors import UnknownMemberError
from nas.reporting.bundle import export_model
from nas.reporting.html_report import write_report
from nas.results.compression_effect import find_baseline
from nas.results.front import pareto_front
from nas.results.front_table import table_rows
from nas.results.record import Record
from nas.results.run import Run, load_run
from nas.results.run_folder import RunFolder
from nas.results.selection import Selection, make_limits
from nas.results.selection import pick as pick_record
from nas.targets.catalog import load_target

TABLE_COLUMNS = (
    "run", "trial", "phase", "params", "nonzero_params", "compression_ratio", "size_bytes", "packed_bytes",
    "size_ratio", "memory_bytes", "activation_bytes", "resident_bytes", "macs",
    "accuracy", "test_accuracy", "latency_ms", "latency_kind",
    "latency_disturbed", "frames_per_s",
)  # fmt: skip
"""Columns of `table`."""


def pick(
    run: Run | RunFolder | str | Path,
    *,
    max_latency: float | str | None = None,
    max_size: float | str | None = None,
    max_memory: float | str | None = None,
    min_accuracy: float | None = None,
    knee: bool = False,
) -> Selection:
    """Choose one member of a run's Pareto front, and say why.

    - Without limits, or with `knee`: the knee of the front within the limits.
    - With an upper limit (latency, size, memory): the most accurate member within the limits.
    - With `min_accuracy` alone: the fastest member that reaches it.

    Args:
        run: the run, or its folder.
        max_latency: upper limit on the target in milliseconds, or text with a unit such as "5ms".
        max_size: upper limit of the file in bytes, or text with a unit such as "500kB".
        max_memory: upper limit of weights and activations in bytes, or text with a unit such as "1MiB"; a record of an
            earlier version, which does not know its memory, violates it.
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
    limits = make_limits(max_latency=max_latency, max_size=max_size, max_memory=max_memory, min_accuracy=min_accuracy)
    return pick_record(folder.records(), folder.config.search.objectives, limits=limits, knee=knee)


def export(
    run: Run | RunFolder | str | Path,
    which: int | str | Record | Selection | None = None,
    *,
    out: str | Path | None = None,
    target: str | None = None,
    input: str | Sequence[str] = (),
    force: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write one candidate as a folder: model.onnx, model card, golden pair, record, and what its target needs.

    For a target that runs ONNX Runtime that is a script, its requirements, labels and a page; for one that runs
    TensorRT also the line of trtexec that builds the engine, a script for it, and DeepStream's configuration.

    Args:
        run: the run, or its folder.
        which: number of a trial, first digits of a key, a record, or what `pick` returned; None takes the knee of the
            front.
        out: the folder to write; None takes `exported/RUN-TRIAL`.
        target: the device that the files are for; None takes the run's own.
        input: how the file takes pictures, words or text such as "uint8,any-size": `uint8` for bytes, `nhwc` for
            channels last, `rgb` for colour from which grey is computed, `any-size` for pictures of any size. The
            rewritten file is proved to compute what the measured one does.
        force: whether an export in that folder may be overwritten.
        log: called with a line where the run's own target is not known here, and its files are left out.

    Returns:
        Path of model.onnx.

    Raises:
        ConfigError: there is no such run or candidate, its file is not the one that was measured, the folder holds an
            export, or a word of `input` is unknown.
        UnknownMemberError: there is no such target.
        ExportError: the file cannot take pictures so.
        ParityError: the rewritten file does not compute what the measured one does.
        MissingPackageError: pillow, which the proof needs, is not installed.

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
    words = [word.strip() for word in input.split(",")] if isinstance(input, str) else list(input)
    return export_model(
        folder, which, Path(out) if out else Path("exported") / f"{folder.path.name}-{name}",
        profile=_device_of(folder, target, log), input_words=words if words != [""] else (), force=force,
    )  # fmt: skip


def _device_of(folder: RunFolder, target: str | None, log: Callable[[str], None]) -> HardwareProfile:
    """The target to write files for: the named one, else the run's own, else this machine's CPU."""
    if target is not None:
        return load_target(target)
    own = str(folder.config.flat()["target"])
    try:
        return load_target(own)
    except UnknownMemberError:
        log(f"the run's target {own!r} is not known here, so the files are for ONNX Runtime; name one with --target")
        return load_target("cpu")


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
        - `memory_bytes` and `activation_bytes`: weights and the activations alive at once, and the latter alone, by the
          graph; `resident_bytes`: the process that timed the file on this machine, its runtime included.
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


def report(
    *runs: Run | RunFolder | str | Path,
    baselines: Sequence[str | Path] = (),
    out: str | Path | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write the HTML report of one run, or of several on the same data.

    Args:
        *runs: the runs, or their folders.
        baselines: ONNX files of published models that the front is compared with. Each is scored on the run's selection
            split and timed for its target; input size, pixel scaling and order of the classes are found as for a
            teacher. The figures stay in the run folder, and later reports show them too.
        out: the HTML file; None takes report.html in the run folder, or comparison.html of several runs.
        log: called with a line about each step of scoring and timing.

    Returns:
        Path of the HTML file.

    Raises:
        ConfigError: there is no such run, the runs are on different data, a baseline is missing or no ONNX file, or it
            has other classes than the data or an unknown order of them.
        DataError: the data set, which baselines are scored on, cannot be read.
        MeasureError: a baseline does not run.

    Examples:
        >>> nas.report("runs/synthetic-plain-jetson")
        PosixPath('runs/synthetic-plain-jetson/report.html')
    """
    folders = [_folder_of(run) for run in runs]
    if baselines:
        for folder in folders:
            evaluate_baselines(folder, baselines, log=log)
    default = folders[0].path / "report.html" if len(folders) == 1 else Path("comparison.html")
    return write_report(folders, Path(out) if out else default)


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
