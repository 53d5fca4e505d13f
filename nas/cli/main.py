"""The command line: the commands put together, and how the process ends. Each command is a module in `nas.cli.commands`.

They parse, call and print; what they call is imported at use. A `NasError` is one line on stderr and exit status 2; an
interrupted command says so and exits with 130.
"""

import logging
import signal
import sys
from typing import Annotated

import typer

import nas
from nas.cli.commands import dashboard, data, doctor, export, measure, pick, report, search, table, targets

app = typer.Typer(
    name="nas", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Search for small, fast facial-expression nets for a device, and hold ONNX files with measured figures.",
    epilog="Example: nas search --target jetson",
)  # fmt: skip
for command in (search, pick, export, measure, report, table, dashboard, doctor):  # in the order of `nas --help`
    app.add_typer(command.app)
app.add_typer(data.app, name="data")
app.add_typer(targets.app, name="targets")


def main() -> None:
    """The entry point of the `nas` command."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, _handle_sigterm)  # what `timeout` and job schedulers send
    try:
        status = app(prog_name="nas", standalone_mode=False)
    except typer.TyperException as error:  # a flag or a command that does not exist, a value of the wrong kind
        typer.echo(f"nas: {error.format_message().rstrip('.')}; `nas COMMAND --help` lists what there is", err=True)
        status = 2
    sys.exit(status or 0)


def _handle_sigterm(number: int, frame: object) -> None:
    """End like Ctrl-C: with a line that says so, and without being taken for a crash of the candidate at work."""
    raise KeyboardInterrupt


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        typer.echo(f"fer-nas {nas.__version__}")
        raise typer.Exit
