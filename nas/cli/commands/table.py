"""`nas table`: what the nets of runs cost."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import RunsPath, open_run

app = typer.Typer()


@app.command(epilog="Example: nas table runs/teacher runs/student-a runs/student-b")
@handle_errors
def table(
    run: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN", help="Folders of runs; the newest if left out.")
    ] = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Show what the nets of runs cost: weights, bytes, MACs, accuracy, latency and frames per second."""
    from nas.cli.render import terminal

    folders = [open_run(path, runs) for path in run] if run else [open_run(None, runs)]
    terminal.show_costs(terminal.make_console(), folders)
