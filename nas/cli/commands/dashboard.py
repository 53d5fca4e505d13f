"""`nas dashboard`: Optuna's dashboard on a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.commands._config_options import command_line
from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import RunPath, RunsPath, open_run
from nas.errors import MissingPackageError

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from nas.results.run_folder import RunFolder

app = typer.Typer()


@app.command(epilog="Example: nas dashboard runs/synthetic-darts-jetson --port 8081")
@handle_errors
def dashboard(
    run: RunPath = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    writable: Annotated[
        bool, typer.Option("--writable", help="Serve the study itself, which anyone who reaches the port may change.")
    ] = False,
    artifacts: Annotated[
        str | None,
        typer.Option(
            help="Where models, plots and report are put: a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.",
            show_default="artifacts/ in the run folder",
        ),
    ] = None,
    runs: RunsPath = Path("runs"),
) -> None:
    """Serve a read-only view of a run, finished or in progress, in Optuna's dashboard. Stop it with Ctrl-C."""
    from nas.cli.render import terminal

    folder = open_run(run, runs)
    server = make_dashboard(folder, host=host, port=port, is_writable=writable, artifacts=artifacts)
    shown = f"[{host}]" if ":" in host else host
    terminal.make_console().print(
        f"{folder.path} at http://{shown}:{port}/dashboard/{' (writable)' if writable else ''}", soft_wrap=True,
        markup=False,
    )  # fmt: skip
    with server:
        server.serve_forever()


def make_dashboard(
    folder: "RunFolder",
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    is_writable: bool = False,
    artifacts: str | None = None,
) -> "WSGIServer":
    """A server of the dashboard, which listens. It follows a search in progress.

    Args:
        folder: the run.
        host: address to listen on.
        port: port to listen on.
        is_writable: serve the study itself, not a view of it.
        artifacts: as `nas.dashboard.artifacts.RunArtifacts` takes it.

    Raises:
        MissingPackageError: optuna-dashboard is not installed, or the client of a remote store.
        ConfigError: the storage of the run cannot be opened, or this process cannot listen there.
    """
    from nas.dashboard.artifacts import RunArtifacts
    from nas.dashboard.server import Guard, listen
    from nas.dashboard.study_view import StudyView
    from nas.searcher.storage import open_storage

    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise MissingPackageError(
            "the dashboard needs optuna-dashboard, which is not installed; type: pip install 'fer-nas[dashboard]'"
        ) from None
    files = RunArtifacts(folder, artifacts)
    storage = (
        open_storage(folder.path, folder.config.run.storage)
        if is_writable
        else StudyView(folder, files, command=command_line(folder.config))
    )
    application = wsgi(storage, artifact_store=files.store)
    return listen(Guard(application, host=host, is_writable=is_writable), host=host, port=port)
