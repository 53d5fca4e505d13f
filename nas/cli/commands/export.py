"""`nas export`: what a point of a front is shipped as."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import Knee, MaxLatency, MaxSize, MinAccuracy, RunPath, RunsPath, open_run
from nas.errors import ConfigError

app = typer.Typer()


@app.command(epilog="Example: nas export runs/synthetic-darts-jetson --trial 37 --out my_model")
@handle_errors
def export(
    run: RunPath = None,
    trial: Annotated[str | None, typer.Option(help="Number of a trial, or first digits of a key.")] = None,
    knee: Knee = False,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    min_accuracy: MinAccuracy = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; exported/RUN-TRIAL if left out.")] = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Write model.onnx, a model card, a golden input/output pair and the record of one point: a trial or a pick."""
    from nas.api import export as write
    from nas.cli.render import terminal
    from nas.results.selection import NO_LIMITS, make_limits
    from nas.results.selection import pick as choose

    folder = open_run(run, runs)
    limits = make_limits(max_latency=max_latency, max_size=max_size, min_accuracy=min_accuracy)
    if trial is not None and (knee or limits != NO_LIMITS):
        raise ConfigError("give --trial, or --knee and limits, but not both: a trial is chosen already")
    which = trial or choose(folder.records(), folder.config.search.objectives, limits=limits, knee=knee).record
    model = write(folder, which, out=out)
    console = terminal.make_console()
    for file in sorted(model.parent.iterdir()):
        console.print(f"{file}  {file.stat().st_size:,} bytes", soft_wrap=True)
