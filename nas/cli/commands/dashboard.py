"""`nas dashboard`: Optuna's dashboard on the study of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import RunPath, RunsPath, open_run
from nas.errors import MissingPackageError

if TYPE_CHECKING:
    from nas.results.run_folder import RunFolder

app = typer.Typer()


@app.command(epilog="Example: nas dashboard runs/synthetic-darts-jetson --port 8081")
@handle_errors
def dashboard(
    run: RunPath = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    runs: RunsPath = Path("runs"),
) -> None:
    """Serve Optuna's dashboard on a run, finished or in progress. Stop it with Ctrl-C."""
    from nas.cli.render import terminal

    folder = open_run(run, runs)
    terminal.make_console().print(f"{folder.path} at http://{host}:{port}/dashboard/", soft_wrap=True)
    serve_dashboard(folder, host=host, port=port)


def serve_dashboard(folder: "RunFolder", *, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve the dashboard until interrupted. It follows a search in progress.

    Raises:
        MissingPackageError: optuna-dashboard is not installed.
        ConfigError: the storage of the run cannot be opened.
    """
    from nas.searcher.storage import open_storage

    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise MissingPackageError(
            "the dashboard needs optuna-dashboard, which is not installed; type: pip install 'fer-nas[dashboard]'"
        ) from None
    run_server(open_storage(folder.path, folder.config.run.storage), host=host, port=port)
