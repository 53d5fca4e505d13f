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
    measured_runs: Annotated[int, typer.Option("--runs", help="Timed runs on this machine.", min=2)] = 300,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of a second measurement, beside one thread; all cores by default.", min=1),
    ] = None,
    pin: Annotated[
        str | None, typer.Option(help="CPU cores of this machine to run on, separated by commas: 1 or 2,3.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Also show the time of each layer.")] = False,
    energy: Annotated[
        bool, typer.Option("--energy", help="Also measure the energy, on a board with power monitors.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands for a board without running them.")
    ] = False,
) -> None:
    """Measure the latency of ONNX files on this machine or a board over ssh, or predict it for another target."""
    from nas.api import dry_run_commands, measure_all
    from nas.cli.render import terminal

    console = terminal.make_console()
    if dry_run:
        for command in dry_run_commands(model, target=target, layers=layers, energy=energy):
            console.print(command, soft_wrap=True, markup=False)
        return
    cores = _parse_cores(pin) if pin else ()
    results = measure_all(
        model, target=target, runs=measured_runs, threads=sorted({1, threads or len(cores) or _usable_cores()}),
        layers=layers, energy=energy, pin=cores, log=terminal.log,
    )  # fmt: skip
    if not terminal.show_latencies(console, dict(zip(map(str, model), results, strict=True))):
        raise typer.Exit(2)


def _usable_cores() -> int:
    """Number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parse_cores(words: str) -> tuple[int, ...]:
    """Core numbers from text such as "2,3"."""
    if not all(word.isascii() and word.isdigit() for word in words.split(",")):
        raise ConfigError(f"--pin must be core numbers separated by commas, but got {words!r}; try 1")
    return tuple(int(word) for word in words.split(","))
