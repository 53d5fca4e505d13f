"""`nas pick`: one point of a front, and why."""

from pathlib import Path

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import Knee, MaxLatency, MaxSize, MinAccuracy, RunPath, RunsPath, open_run

app = typer.Typer()


@app.command(epilog="Example: nas pick runs/synthetic-darts-jetson --max-latency 2ms")
@handle_errors
def pick(
    run: RunPath = None,
    knee: Knee = False,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    min_accuracy: MinAccuracy = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Choose one point of the front, and say why this one and what its neighbours would give."""
    from nas.cli.render import terminal
    from nas.results.selection import make_limits
    from nas.results.selection import pick as choose

    folder = open_run(run, runs)
    limits = make_limits(max_latency=max_latency, max_size=max_size, min_accuracy=min_accuracy)
    picked = choose(folder.records(), folder.config.search.objectives, limits=limits, knee=knee)
    console = terminal.make_console()
    terminal.show_selection(console, picked)
    console.print(f"\nexport   nas export {folder.path} --trial {picked.record.trial}", soft_wrap=True)
