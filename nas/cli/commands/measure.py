"""`nas measure`: the latency of ONNX files."""

import os
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.commands._errors import handle_errors
from nas.errors import ConfigError

app = typer.Typer()


@app.command(epilog="Example: nas measure my_model/model.onnx --target cpu")
@handle_errors
def measure(
    model: Annotated[list[Path], typer.Argument(metavar="MODEL.onnx", help="ONNX file, or several to compare.")],
    target: Annotated[str, typer.Option(help="Target device; `nas targets` lists them.")] = "cpu",
    runtime: Annotated[
        str | None,
        typer.Option(
            help="Runtime on this machine: onnxruntime, onnxruntime_cuda, onnxruntime_tensorrt or tensorrt; the "
            "target's by default."
        ),
    ] = None,
    measured_runs: Annotated[int, typer.Option("--runs", help="Timed runs on this machine.", min=2)] = 300,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of a second measurement, beside one thread; all cores by default.", min=1),
    ] = None,
    pin: Annotated[
        str | None, typer.Option(help="CPU cores of this machine to run on, separated by commas: 1 or 2,3.")
    ] = None,
    batch: Annotated[
        str, typer.Option(help="Images at once, separated by commas, such as 1,8,32: shows images a second of each.")
    ] = "1",
    layers: Annotated[bool, typer.Option("--layers", help="Also show the time of each layer.")] = False,
    energy: Annotated[
        bool, typer.Option("--energy", help="Also measure the energy, on a board with power monitors.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also show where the time goes, and what the figure leaves out.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands for a board without running them.")
    ] = False,
) -> None:
    """Measure the latency of ONNX files on this machine or a board over ssh, or predict it for another target."""
    from nas.api import dry_run_commands, measure_all, read_memories
    from nas.api import explain as explain_files
    from nas.cli.render import measurements, terminal

    console = terminal.make_console()
    batches = _parse_numbers("--batch", batch, "numbers of images", "1,8,32")
    if dry_run:
        for command in dry_run_commands(
            model, target=target, batch=batches, layers=layers, energy=energy, explain=explain
        ):
            console.print(command, soft_wrap=True, markup=False)
        return
    cores = _parse_numbers("--pin", pin, "core numbers", "1") if pin else ()
    results = measure_all(
        model, target=target, runtime=runtime, runs=measured_runs,
        threads=sorted({1, threads or len(cores) or _usable_cores()}), batch=batches, layers=layers, energy=energy,
        pin=cores, log=terminal.log,
    )  # fmt: skip
    by_name = dict(zip(map(str, model), results, strict=True))
    is_whole = measurements.show_latencies(console, by_name, read_memories(model, target=target))
    if explain:
        found = explain_files(model, target=target, runtime=runtime, log=terminal.log)
        is_whole &= measurements.show_breakdowns(console, dict(zip(map(str, model), found, strict=True)))
    if not is_whole:
        raise typer.Exit(2)


def _usable_cores() -> int:
    """Number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parse_numbers(flag: str, words: str, what: str, example: str) -> tuple[int, ...]:
    """Numbers from text such as "2,3"."""
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words.split(",")):
        raise ConfigError(f"{flag} must be {what} separated by commas, but got {words!r}; try {example}")
    return tuple(int(word) for word in words.split(","))
