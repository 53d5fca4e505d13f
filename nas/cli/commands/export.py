"""`nas export`: one member of a front as a folder to ship."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import Knee, MaxLatency, MaxMemory, MaxSize, MinAccuracy, RunPath, RunsPath, open_run
from nas.errors import ConfigError

app = typer.Typer()


@app.command(epilog="Example: nas export runs/synthetic-darts-jetson --trial 37 --input uint8,any-size --out my_model")
@handle_errors
def export(
    run: RunPath = None,
    trial: Annotated[str | None, typer.Option(help="Number of a trial, or first digits of a key.")] = None,
    knee: Knee = False,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    max_memory: MaxMemory = None,
    min_accuracy: MinAccuracy = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; exported/RUN-TRIAL by default.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Device that the files beside the model are for; the run's own by default.")
    ] = None,
    input_form: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="WORDS",
            help="How the file takes pictures, words separated by commas: uint8, nhwc, rgb (grey is computed inside), "
            "any-size. It is proved to compute what the measured file does.",
        ),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier export in the folder.")] = False,
    runs: RunsPath = Path("runs"),
) -> None:
    """Write one candidate, chosen by trial or by limits, as model.onnx with what its target needs beside it.

    That is a model card, a record, a golden pair (an input with its output, to test a deployment with) and scripts that
    classify pictures; for a Jetson and other targets of TensorRT also the script that builds the engine.
    """
    from nas import api
    from nas.cli.render import terminal

    folder = open_run(run, runs)
    has_limits = any(limit is not None for limit in (max_latency, max_size, max_memory, min_accuracy))
    if trial is not None and (knee or has_limits):
        raise ConfigError("give --trial, or --knee and limits, but not both: --trial already chooses the candidate")
    which = trial or api.pick(
        folder, max_latency=max_latency, max_size=max_size, max_memory=max_memory, min_accuracy=min_accuracy, knee=knee
    )
    model = api.export(folder, which, out=out, target=target, input=input_form, force=force, log=terminal.log)
    console = terminal.make_console()
    for file in sorted(model.parent.iterdir()):
        console.print(f"{file}  {file.stat().st_size:,} bytes", soft_wrap=True)
