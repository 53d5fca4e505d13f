"""Arguments and options that several commands share, and how their values are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.errors import ConfigError

if TYPE_CHECKING:
    from nas.results.run_folder import RunFolder

DATA_OPTION = "--data-option"

RunPath = Annotated[Path | None, typer.Argument(metavar="RUN", help="Run folder; by default the newest in runs/.")]
RunPaths = Annotated[
    list[Path] | None, typer.Argument(metavar="RUN", help="Run folders; by default the newest in runs/.")
]
RunsPath = Annotated[Path, typer.Option(help="Folder of all runs.")]
MaxLatency = Annotated[str | None, typer.Option(help="Upper limit of the latency on the target, such as 5ms.")]
MaxSize = Annotated[str | None, typer.Option(help="Upper limit of the file size, such as 500kB.")]
MaxMemory = Annotated[
    str | None, typer.Option(help="Upper limit of the weights and the activations alive at once, such as 1MiB.")
]
MinAccuracy = Annotated[float | None, typer.Option(help="Lower limit of the accuracy on the selection split, 0..1.")]
Knee = Annotated[
    bool, typer.Option("--knee", help="Take the knee of the members within the limits; the default without limits.")
]
DataPath = Annotated[Path | None, typer.Option(help="File or folder of the data set.")]
DataOption = Annotated[
    list[str] | None, typer.Option(DATA_OPTION, help="Option of the data set, as NAME=VALUE; repeatable.")
]


def open_run(run: Path | None, runs: Path) -> "RunFolder":
    """Open a run folder; the newest one in `runs` where none is given.

    Raises:
        ConfigError: the folder is not a run, or `runs` holds none.
    """
    from nas.results.run import load_run

    return load_run(run, runs=runs).folder


def open_runs(paths: list[Path] | None, runs: Path) -> "list[RunFolder]":
    """Open several run folders; the newest one in `runs` where none is given.

    Raises:
        ConfigError: a folder is not a run, or `runs` holds none.
    """
    return [open_run(path, runs) for path in paths] if paths else [open_run(None, runs)]


def parse_key_values(words: list[str]) -> dict[str, str]:
    """Options NAME=VALUE by name.

    Raises:
        ConfigError: one of them has no "=".
    """
    invalid = [word for word in words if "=" not in word]
    if invalid:
        raise ConfigError(f"{DATA_OPTION} must be NAME=VALUE, but got {invalid[0]!r}")
    return {name: value for name, _, value in (word.partition("=") for word in words)}
