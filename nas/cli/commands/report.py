"""`nas report`: runs as a page, and their fronts."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import RunsPath, open_run

app = typer.Typer()


@app.command(epilog="Example: nas report runs/synthetic-darts-jetson runs/synthetic-plain-jetson")
@handle_errors
def report(
    run: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Folders of runs on the same data; the newest if left out."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="HTML file; in the folder of a single run if left out.")] = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Write the report of a run anew, or of several runs beside each other, and show their fronts."""
    from nas.cli.render import terminal
    from nas.reporting.html_report import write_report

    folders = [open_run(path, runs) for path in run] if run else [open_run(None, runs)]
    path = out or (folders[0].path / "report.html" if len(folders) == 1 else Path("comparison.html"))
    written = write_report(folders, path)
    console = terminal.make_console()
    for folder in folders:
        console.print(f"{folder.path}", style="bold", soft_wrap=True)
        terminal.show_front(console, folder)
    console.print(f"\nreport   {written}", soft_wrap=True)
