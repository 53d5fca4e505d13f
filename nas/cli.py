"""The command line: parses, calls, prints. Everything else is in the modules it calls, which are imported at use.

A `NasError` is one line on stderr and exit status 2; an interrupted command says so and exits with 130.
"""

import functools
import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

import nas
from nas.config import SearchConfig, make_config, read_config
from nas.errors import ConfigError, NasError

if TYPE_CHECKING:
    from nas.records import RunFolder

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="nas", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Search for small, fast facial-expression nets for a device, and hold ONNX files with measured figures.",
    epilog="Example: nas search --target jetson",
)  # fmt: skip
data_app = typer.Typer(no_args_is_help=True, help="Look at data sets.", epilog="Example: nas data check synthetic")
app.add_typer(data_app, name="data")
targets_app = typer.Typer()
app.add_typer(targets_app, name="targets")

RunPath = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="Folder of the run; the newest below runs/ if left out.")
]
RunsPath = Annotated[Path, typer.Option(help="Folder of all runs.")]
MaxLatency = Annotated[str | None, typer.Option(help="Upper limit on the target, for example 5ms.")]
MaxSize = Annotated[str | None, typer.Option(help="Upper limit of the file, for example 500kB.")]
MinAccuracy = Annotated[float | None, typer.Option(help="Lower limit, 0..1, on the selection split.")]
Knee = Annotated[bool, typer.Option("--knee", help="Take the knee of what is within the limits (the default without).")]

SEVERAL_WORDS = ("compressors", "objectives", "proxies")
"""Flags that hold words with commas between."""


def main() -> None:
    """The entry point of the `nas` command."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, _stop)  # what `timeout` and job schedulers send
    try:
        status = app(prog_name="nas", standalone_mode=False)
    except typer.TyperException as error:  # a flag or a command that does not exist, a value of the wrong kind
        typer.echo(f"nas: {error.format_message().rstrip('.')}; `nas COMMAND --help` lists what there is", err=True)
        status = 2
    sys.exit(status or 0)


def _stop(number: int, frame: object) -> None:
    """End like Ctrl-C: with a line that says so, and without being taken for a crash of the candidate at work."""
    raise KeyboardInterrupt


def _flag(field: str, text: str) -> Any:
    """An option of `nas search` whose default is that of the configuration's field."""
    default = SearchConfig.model_fields[field].default
    if isinstance(default, tuple):
        default = ",".join(f"{part:.3g}" if isinstance(part, float) else part for part in default)
    return typer.Option(help=text if default is None else f"{text} (default {default})")


def _told(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors made on purpose into one line and an exit status."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except NasError as error:
            typer.echo(f"nas: {error}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("nas: stopped; the same command goes on where it stopped", err=True)
            raise typer.Exit(130) from None

    return wrapped


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        typer.echo(f"fer-nas {nas.__version__}")
        raise typer.Exit


@app.command(epilog="Example: nas search --target jetson --max-latency 5ms --budget 30m")
@_told
def search(
    target: Annotated[str | None, _flag("target", "Device to search for; see `nas targets`.")] = None,
    space: Annotated[str | None, _flag("space", "Search space: darts, plain, ...")] = None,
    dataset: Annotated[str | None, _flag("dataset", "Data set: synthetic, fer2013, ...")] = None,
    data: Annotated[Path | None, typer.Option(help="File or folder of the data set.")] = None,
    data_option: Annotated[list[str] | None, typer.Option(help="Setting of the data set, NAME=VALUE; repeat.")] = None,
    objectives: Annotated[str | None, _flag("objectives", "accuracy,latency and any of size, energy.")] = None,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    min_accuracy: MinAccuracy = None,
    trials: Annotated[int | None, _flag("trials", "Stop after so many candidates.")] = None,
    budget: Annotated[
        str | None, _flag("budget", "Stop after so long, all included: 30m, 4h (4m without --trials).")
    ] = None,
    stop_when_flat: Annotated[
        int | None, typer.Option(help="End early when so many more candidates would gain less than 1 % of hypervolume.")
    ] = None,
    search_share: Annotated[float | None, _flag("search_share", "Share of the budget for the search itself.")] = None,
    sampler: Annotated[str | None, _flag("sampler", "screened, tpe, nsga2 or random.")] = None,
    warm_start: Annotated[
        list[Path] | None, typer.Option(help="Earlier run on the same space and data to learn from; repeat.")
    ] = None,
    proxies: Annotated[
        str | None, typer.Option(help="Zero-cost proxies for the records: jacov, nwot, synflow. None by default.")
    ] = None,
    compressors: Annotated[
        str | None, _flag("compressors", "What may be done to a net: prune_structured, quantize, low_rank, ...")
    ] = None,
    prune_steps: Annotated[int | None, _flag("prune_steps", "Steps in which channels leave.")] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="ONNX file, run (RUN or RUN:KEY), .npy of answers, or `votes`; =WEIGHT behind it; repeat."),
    ] = None,
    distill: Annotated[
        str | None, _flag("distill", "How to learn from it: logits, dkd, bounded, attention, hints.")
    ] = None,
    temperature: Annotated[float | None, _flag("temperature", "Softens the teacher's answers.")] = None,
    alpha: Annotated[float | None, _flag("alpha", "Share of the teacher in the loss, 0..1.")] = None,
    distill_from: Annotated[str | None, _flag("distill_from", "final: front only; start: all of the search.")] = None,
    qat: Annotated[float | None, _flag("qat", "Share of the final epochs trained in 8 bits; 0 is none.")] = None,
    qat_steps: Annotated[str | None, _flag("qat_steps", "Grids of 8 bits: calibrated, or learned as well.")] = None,
    epochs: Annotated[float | None, _flag("epochs", "Passes over the data in the search.")] = None,
    rungs: Annotated[str | None, _flag("rungs", "Shares of the epochs after which a candidate may stop.")] = None,
    final_epochs: Annotated[int | None, _flag("final_epochs", "Further passes for the front's members.")] = None,
    verify: Annotated[int | None, _flag("verify", "How many members are trained in full.")] = None,
    verify_seeds: Annotated[int | None, _flag("verify_seeds", "How often each of them is trained.")] = None,
    seed: Annotated[int | None, _flag("seed", "Of everything random.")] = None,
    threads: Annotated[int | None, _flag("threads", "CPU threads for training; 0 is all cores.")] = None,
    device: Annotated[str | None, _flag("device", "Where to train: auto, cpu or cuda.")] = None,
    storage: Annotated[str | None, typer.Option(help="URL of an Optuna storage; a file in the run by default.")] = None,
    runs: Annotated[Path | None, _flag("runs", "Folder of all runs.")] = None,
    name: Annotated[str | None, typer.Option(help="Of this run; made of data, space and target if left out.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with these fields; flags go first.")] = None,
) -> None:
    """Search, train the front in full, and write the run folder. The same command again goes on where it stopped."""
    _search(_configured(config, _fields(locals())))


def _with_flags_of(command: Callable[..., None], *, without: tuple[str, ...]) -> Callable[[Callable[..., None]], Any]:
    """Give a function that takes `**flags` the flags of a command behind its own, but for some."""

    def widened(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        more = [p for name, p in inspect.signature(command).parameters.items() if name not in without]
        function.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
        return function

    return widened


@app.command(epilog="Example: nas compress --model mypkg.models:build --weights w.pt --dataset fer2013 --target jetson")
@_told
@_with_flags_of(search, without=("space",))
def compress(
    model: Annotated[
        str | None, typer.Option(help="A published net (mini_xception, resnet18, ...), or package.module:function.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="State dict of it; without one it is trained first.")] = None,
    mean: Annotated[float | None, typer.Option(help="What it wants subtracted from pixels 0..255.")] = None,
    std: Annotated[float | None, typer.Option(help="What it wants them divided by then.")] = None,
    input_size: Annotated[int | None, typer.Option(help="Height and width that it wants images resized to.")] = None,
    **flags: Any,
) -> None:
    """Search how far a net that you have can be pruned and quantised: same run folder, front and report as a search."""
    own = {"model": model, "weights": weights, "mean": mean, "std": std, "input_size": input_size}
    config = _configured(flags["config"], own | _fields(flags))
    if config.model is None:
        raise ConfigError("nas compress needs a net; give --model NAME or --model package.module:function")
    _search(config)


def _search(config: SearchConfig) -> None:
    from nas import terminal
    from nas.api import search as run_search

    console = terminal.console()
    with terminal.Watcher(console) as watch:
        run = run_search(config, watch=watch)
    terminal.show_front(console, run.folder)
    path = run.folder.path
    lines = (f"report   {path / 'report.html'}", f"pick     nas pick {path}", f"export   nas export {path} --knee")
    console.print("\n" + "\n".join(lines), soft_wrap=True)


@app.command(epilog="Example: nas pick runs/synthetic-darts-jetson --max-latency 2ms")
@_told
def pick(
    run: RunPath = None,
    knee: Knee = False,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    min_accuracy: MinAccuracy = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Choose one point of the front, and say why this one and what its neighbours would give."""
    from nas import terminal
    from nas.pick import make_limits
    from nas.pick import pick as choose

    folder = _folder(run, runs)
    limits = make_limits(max_latency=max_latency, max_size=max_size, min_accuracy=min_accuracy)
    picked = choose(folder.records(), folder.config.objectives, limits=limits, knee=knee)
    console = terminal.console()
    terminal.show_pick(console, picked)
    console.print(f"\nexport   nas export {folder.path} --trial {picked.record.trial}", soft_wrap=True)


@app.command(epilog="Example: nas export runs/synthetic-darts-jetson --trial 37 --out my_model")
@_told
def export(
    run: RunPath = None,
    trial: Annotated[str | None, typer.Option(help="Number of a trial, or first digits of a key.")] = None,
    knee: Knee = False,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    min_accuracy: MinAccuracy = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; exported/RUN-TRIAL if left out.")] = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Write model.onnx, a model card, a golden input/output pair and the record of one point: a trial or a pick."""
    from nas import terminal
    from nas.api import export as write
    from nas.pick import NO_LIMITS, make_limits
    from nas.pick import pick as choose

    folder = _folder(run, runs)
    limits = make_limits(max_latency=max_latency, max_size=max_size, min_accuracy=min_accuracy)
    if trial is not None and (knee or limits != NO_LIMITS):
        raise ConfigError("give --trial, or --knee and limits, but not both: a trial is chosen already")
    which = trial or choose(folder.records(), folder.config.objectives, limits=limits, knee=knee).record
    model = write(folder, which, out=out)
    console = terminal.console()
    for file in sorted(model.parent.iterdir()):
        console.print(f"{file}  {file.stat().st_size:,} bytes", soft_wrap=True)


@app.command(epilog="Example: nas measure my_model/model.onnx --target cpu")
@_told
def measure(
    model: Annotated[list[Path], typer.Argument(metavar="MODEL.onnx", help="The file, or several to compare.")],
    target: Annotated[str, typer.Option(help="Device; see `nas targets`.")] = "cpu",
    measured_runs: Annotated[int, typer.Option("--runs", help="Timed runs on this machine.", min=2)] = 300,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the runtime besides one; all cores if left out.", min=1)
    ] = None,
    pin: Annotated[str | None, typer.Option(help="Cores of this machine to use, commas between: 1 or 2,3.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show each layer's time too.")] = False,
    energy: Annotated[bool, typer.Option("--energy", help="Measure energy too, on a board that can.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands for a board; run none.")] = False,
) -> None:
    """State the latency of ONNX files on a target: measured on this machine or a board over ssh, else predicted."""
    from nas import terminal
    from nas.api import commands, compare

    console = terminal.console()
    if dry_run:
        for command in commands(model, target=target, layers=layers, energy=energy):
            console.print(command, soft_wrap=True, markup=False)
        return
    cores = _cores(pin) if pin else ()
    found = compare(
        model, target=target, runs=measured_runs, threads=sorted({1, threads or len(cores) or _usable_cores()}),
        layers=layers, energy=energy, pin=cores, say=terminal.say,
    )  # fmt: skip
    if not terminal.show_measurements(console, dict(zip(map(str, model), found, strict=True))):
        raise typer.Exit(2)


@app.command(epilog="Example: nas report runs/synthetic-darts-jetson runs/synthetic-plain-jetson")
@_told
def report(
    run: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Folders of runs on the same data; the newest if left out."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="HTML file; in the folder of a single run if left out.")] = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Write the report of a run anew, or of several runs beside each other, and show their fronts."""
    from nas import terminal
    from nas.report import write_report

    folders = [_folder(path, runs) for path in run] if run else [_folder(None, runs)]
    path = out or (folders[0].path / "report.html" if len(folders) == 1 else Path("comparison.html"))
    written = write_report(folders, path)
    console = terminal.console()
    for folder in folders:
        console.print(f"{folder.path}", style="bold", soft_wrap=True)
        terminal.show_front(console, folder)
    console.print(f"\nreport   {written}", soft_wrap=True)


@app.command(epilog="Example: nas table runs/teacher runs/student-a runs/student-b")
@_told
def table(
    run: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN", help="Folders of runs; the newest if left out.")
    ] = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Show what the nets of runs cost: weights, bytes, MACs, accuracy, latency and frames per second."""
    from nas import terminal

    folders = [_folder(path, runs) for path in run] if run else [_folder(None, runs)]
    terminal.show_costs(terminal.console(), folders)


@app.command(epilog="Example: nas dashboard runs/synthetic-darts-jetson --port 8081")
@_told
def dashboard(
    run: RunPath = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    runs: RunsPath = Path("runs"),
) -> None:
    """Serve Optuna's dashboard on a run, also while its search goes on. Stop it with Ctrl-C."""
    from nas import terminal
    from nas.dashboard import serve

    folder = _folder(run, runs)
    terminal.console().print(f"{folder.path} at http://{host}:{port}/dashboard/", soft_wrap=True)
    serve(folder, host=host, port=port)


@targets_app.callback(invoke_without_command=True, epilog="Example: nas targets")
@_told
def targets(context: typer.Context) -> None:
    """List the devices that can be searched for, or add and check one of your own."""
    from nas import terminal
    from nas.api import calibrations
    from nas.targets import targets as profiles

    if context.invoked_subcommand is None:
        terminal.console().print(terminal.targets_table(profiles(), calibrations()))


@targets_app.command("add", epilog="Example: nas targets add mynano --like jetson-orin-nano --ssh user@host")
@_told
def targets_add(
    name: Annotated[str, typer.Argument(help="Word for the device.")],
    like: Annotated[str, typer.Option(help="The known target that it is one of.")],
    ssh: Annotated[str | None, typer.Option(help="Where it is: user@host or user@host:port; by key.")] = None,
    local: Annotated[bool, typer.Option("--local", help="It is this machine, by the tensorrt package.")] = False,
    trtexec: Annotated[str | None, typer.Option(help="Path on the board, where it is not the usual one.")] = None,
    ssh_config: Annotated[Path | None, typer.Option(help="File for ssh -F.")] = None,
) -> None:
    """Write a device of yours into nas.toml in this folder, so that searches measure on it."""
    from nas import terminal
    from nas.targets import add_target

    fields = {"like": like, "ssh": ssh, "local": local or None, "trtexec": trtexec, "ssh_config": ssh_config}
    profile = add_target(name, fields)
    terminal.console().print(f"{name}: {profile.title}\ncheck   nas targets check {name}", soft_wrap=True, markup=False)


@targets_app.command("check", epilog="Example: nas targets check mynano")
@_told
def targets_check(name: Annotated[str, typer.Argument(help="The device.")]) -> None:
    """Tell in a minute whether a device can be measured, and how it stands. Exit status 1 where it cannot."""
    from nas import terminal
    from nas.api import check_target

    findings = check_target(name)
    console = terminal.console()
    console.print(terminal.checks_table(findings))
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


@targets_app.command("calibrate", epilog="Example: nas targets calibrate mynano --nets 40 --space plain,darts")
@_told
def targets_calibrate(
    name: Annotated[str, typer.Argument(help="The device: this machine, or a board of yours.")],
    nets: Annotated[
        int, typer.Option(help="How many nets to measure, 10 or more, 20 to 50 are usual; a fifth is held out.")
    ] = 40,
    space: Annotated[str, typer.Option(help="Search spaces they are drawn from, commas between.")] = "plain,darts",
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
) -> None:
    """Measure a few nets on a device and learn to predict all others. The same command goes on where it stopped."""
    from nas import terminal
    from nas.api import calibrate

    found = calibrate(name, nets=nets, spaces=tuple(space.split(",")), seed=seed, say=terminal.say)
    console = terminal.console()
    for line in found.lines():
        console.print(line, soft_wrap=True, markup=False)


@app.command(epilog="Example: nas doctor")
@_told
def doctor() -> None:
    """Look at versions, devices and what is missing. Exit status 1 where a search could not go on."""
    from nas import terminal
    from nas.doctor import doctor as examine

    findings = examine()
    terminal.console().print(terminal.findings_table(findings))
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


@data_app.command("check", epilog="Example: nas data check fer2013 --data fer2013.csv")
@_told
def data_check(
    dataset: Annotated[str, typer.Argument(help="Data set: synthetic, fer2013, folder, csv.")] = "synthetic",
    data: Annotated[Path | None, typer.Option(help="File or folder of the data set.")] = None,
    data_option: Annotated[list[str] | None, typer.Option(help="Setting of the data set, NAME=VALUE; repeat.")] = None,
) -> None:
    """Count faces and classes, and look for copies within and across splits and for constant images."""
    from nas import terminal
    from nas._tables import plain_table
    from nas.data_check import check
    from nas.datasets import load_data

    result = check(load_data(dataset, data, options=_pairs(data_option or [])))
    console = terminal.console()
    console.print(plain_table(result.table()))
    found = [(what, str(count)) for what, count in result.findings()]
    console.print(plain_table([("found", "times"), *found]))
    for note in (*result.notes, f"digest {result.digest}"):
        console.print(note, soft_wrap=True)


def _fields(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags of a search as fields of its configuration; what holds several values in one word is taken apart."""
    fields = {name: value for name, value in flags.items() if name not in ("config", "data_option")}
    for name in SEVERAL_WORDS:
        fields[name] = tuple(flags[name].split(",")) if flags[name] else None
    fields["rungs"] = _numbers(flags["rungs"], "--rungs 0.1,0.3,1") if flags["rungs"] else None
    fields["data_options"] = _pairs(flags["data_option"]) if flags["data_option"] else None
    return fields


def _configured(file: Path | None, flags: dict[str, Any]) -> SearchConfig:
    """The configuration of a file and flags; a flag goes before the file's field."""
    given = {name: value for name, value in flags.items() if value is not None}
    return make_config(**((read_config(file).model_dump(exclude_unset=True) if file else {}) | given))


def _folder(run: Path | None, runs: Path) -> "RunFolder":
    from nas.run import load_run

    return load_run(run, runs=runs).folder


def _numbers(words: str, example: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words.split(","))
    except ValueError:
        raise ConfigError(f"need numbers with commas between, but got {words!r}; try {example}") from None


def _usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cores(words: str) -> tuple[int, ...]:
    if not all(word.isascii() and word.isdigit() for word in words.split(",")):
        raise ConfigError(f"--pin must be numbers of cores with commas between, but got {words!r}; try 1")
    return tuple(int(word) for word in words.split(","))


def _pairs(words: list[str]) -> dict[str, str]:
    broken = [word for word in words if "=" not in word]
    if broken:
        raise ConfigError(f"--data-option must be NAME=VALUE, but got {broken[0]!r}")
    return {name: value for name, _, value in (word.partition("=") for word in words)}
