"""The command line: its commands, and how the process ends.

Each command is a module in `nas.cli.commands`, which parses, calls and prints, and imports what it calls at use. A
`NasError` is one line on standard error and exit status 2, a lack of room or memory one with status 1; an interrupted
command says so and exits with 130.
"""

import io
import logging
import signal
import sys
from typing import Annotated

import typer

import nas
from nas.cli.commands import (
    dashboard,
    data,
    doctor,
    export,
    measure,
    pick,
    predict,
    prune,
    quantize,
    report,
    search,
    table,
    targets,
)
from nas.cli.commands._errors import INTERRUPTED_STATUS

app = typer.Typer(
    name="nas", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Search for small, fast facial-expression networks for a device; the results are ONNX files with their "
    "accuracy, latency and size.",
    epilog="Example: nas search --target jetson",
)  # fmt: skip
for command in (
    search,
    quantize,
    prune,
    pick,
    export,
    predict,
    measure,
    report,
    table,
    dashboard,
    doctor,
):  # in the order of `nas --help`
    app.add_typer(command.app)
app.add_typer(data.app, name="data")
app.add_typer(targets.app, name="targets")


def main() -> None:
    """Entry point of the `nas` command."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that the terminal's encoding lacks appear as escapes
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)  # sent by `timeout` and by job schedulers
    hangup = getattr(signal, "SIGHUP", None)  # sent when the terminal closes; Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:  # as `nohup` leaves it
        signal.signal(hangup, _interrupt)
    try:
        status = app(prog_name="nas", standalone_mode=False)
    except typer.TyperException as error:  # an unknown option or command, or a value of the wrong type
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        typer.echo(f"nas: {message}; see `nas COMMAND --help`", err=True)
        status = 2
    except (KeyboardInterrupt, typer.Abort):  # before the command began, or after its end
        typer.echo("nas: stopped", err=True)
        status = INTERRUPTED_STATUS
    sys.exit(status or 0)


def _interrupt(number: int, frame: object) -> None:
    """End like Ctrl-C: locks are released, and the process that times files ends."""
    raise KeyboardInterrupt


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"fer-nas {nas.__version__}")
        raise typer.Exit
