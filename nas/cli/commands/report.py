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
    baseline: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.onnx",
            help="Published model to compare the front with, which is scored and timed; repeatable. Later reports show "
            "it too.",
        ),
    ] = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Write the HTML report of one run, or of several on the same data, and show their fronts."""
    from nas import api
    from nas.cli.render import terminal

    folders = open_runs(run, runs)
    written = api.report(*folders, baselines=baseline or (), out=out, log=terminal.log)
    console = terminal.make_console()
    for folder in folders:
        console.print(f"{folder.path}", style="bold", soft_wrap=True)
        terminal.show_front(console, folder)
    console.print(f"\nreport   {written}", soft_wrap=True)
