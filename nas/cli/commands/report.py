"""`nas report`: the HTML report of one or several runs."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import RunPaths, RunsPath, open_runs

app = typer.Typer()


@app.command(epilog="Example: nas report runs/synthetic-darts-jetson runs/synthetic-plain-jetson")
@handle_errors
def report(
    run: RunPaths = None,
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file; report.html in the run folder, or comparison.html of several runs, by default."),
    ] = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Write the HTML report of one run, or of several on the same data, and show their fronts."""
    from nas.cli.render import terminal
    from nas.reporting.html_report import write_report

    folders = open_runs(run, runs)
    path = out or (folders[0].path / "report.html" if len(folders) == 1 else Path("comparison.html"))
    written = write_report(folders, path)
    console = terminal.make_console()
    for folder in folders:
        console.print(f"{folder.path}", style="bold", soft_wrap=True)
        terminal.show_front(console, folder)
    console.print(f"\nreport   {written}", soft_wrap=True)
