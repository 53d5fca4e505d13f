"""`nas table`: size, accuracy and speed of the networks of runs."""

from pathlib import Path

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import RunPaths, RunsPath, open_runs

app = typer.Typer()


@app.command(epilog="Example: nas table runs/teacher runs/student-a runs/student-b")
@handle_errors
def table(run: RunPaths = None, runs: RunsPath = Path("runs")) -> None:
    """Show weights, bytes, MACs, accuracy, latency and frames per second of the networks of runs."""
    from nas.cli.render import terminal

    terminal.show_costs(terminal.make_console(), open_runs(run, runs))
