"""Optuna's dashboard on the study of a run: history, front, importances and the attributes of each trial."""

from nas.errors import MissingPackageError
from nas.records import RunFolder
from nas.storage import open_storage


def serve(folder: RunFolder, *, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve the dashboard until interrupted; it also follows a search that goes on.

    Raises:
        MissingPackageError: optuna-dashboard is not installed.
        ConfigError: the storage of the run cannot be opened.
    """
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise MissingPackageError(
            "the dashboard needs optuna-dashboard, which is not installed; type: pip install 'fer-nas[dashboard]'"
        ) from None
    run_server(open_storage(folder.path, folder.config.storage), host=host, port=port)
