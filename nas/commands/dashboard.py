"""`nas dashboard`: Optuna's own view of a run."""

from pathlib import Path
from typing import Annotated

import typer

from nas.commands._flags import RunPath, RunsPath, open_run
from nas.commands._told import told

app = typer.Typer()


@app.command(epilog="Example: nas dashboard runs/synthetic-darts-jetson --port 8081")
@told
def dashboard(
    run: RunPath = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    runs: RunsPath = Path("runs"),
) -> None:
    """Serve Optuna's dashboard on a run, also while its search goes on. Stop it with Ctrl-C."""
    from nas import terminal
    from nas.dashboard import serve

    folder = open_run(run, runs)
    terminal.console().print(f"{folder.path} at http://{host}:{port}/dashboard/", soft_wrap=True)
    serve(folder, host=host, port=port)
