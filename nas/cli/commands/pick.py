"""`nas pick`: the choice of one member of a front, with its reason."""

import shlex
from pathlib import Path

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import Knee, MaxLatency, MaxMemory, MaxSize, MinAccuracy, RunPath, RunsPath, open_run

app = typer.Typer()


@app.command(epilog="Example: nas pick runs/synthetic-darts-jetson --max-latency 2ms")
@handle_errors
def pick(
    run: RunPath = None,
    knee: Knee = False,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    max_memory: MaxMemory = None,
    min_accuracy: MinAccuracy = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Choose one member of the front; show the reason and the trade-off against its neighbours.

    Without limits, the knee. With upper limits, the most accurate member. With --min-accuracy alone, the fastest.
    """
    from nas import api
    from nas.cli.render import terminal

    folder = open_run(run, runs)
    selection = api.pick(
        folder, max_latency=max_latency, max_size=max_size, max_memory=max_memory, min_accuracy=min_accuracy, knee=knee
    )
    console = terminal.make_console()
    terminal.show_selection(console, selection)
    console.print(
        f"\nexport   nas export {shlex.quote(str(folder.path))} --trial {selection.record.trial}", soft_wrap=True
    )
