"""`nas dashboard`: Optuna's dashboard on the study of a run."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.commands._errors import handle_errors
from nas.cli.commands._options import RunPath, RunsPath, open_run
from nas.errors import ConfigError, MissingPackageError, one_line

if TYPE_CHECKING:
    from nas.results.run_folder import RunFolder

app = typer.Typer()


@app.command(epilog="Example: nas dashboard runs/synthetic-darts-jetson --port 8081")
@handle_errors
def dashboard(
    run: RunPath = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    runs: RunsPath = Path("runs"),
) -> None:
    """Serve Optuna's dashboard on a run, finished or in progress. Stop it with Ctrl-C."""
    from nas.cli.render import terminal

    folder = open_run(run, runs)
    _check_address(host, port)
    terminal.make_console().print(f"{folder.path} at http://{host}:{port}/dashboard/", soft_wrap=True)
    serve_dashboard(folder, host=host, port=port)


def _check_address(host: str, port: int) -> None:
    """Listen for a moment, before a line says that the dashboard does.

    Raises:
        ConfigError: this process cannot listen there.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"the dashboard must be able to listen on {host}:{port}, but cannot: {one_line(error)}; give a free --port "
            "above 1023, and as --host an address of this machine"
        ) from None


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
