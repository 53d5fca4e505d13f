"""Arguments and flags that several commands share, and what is made of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.errors import ConfigError

if TYPE_CHECKING:
    from nas.results.run_folder import RunFolder

RunPath = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="Folder of the run; the newest below runs/ if left out.")
]
RunsPath = Annotated[Path, typer.Option(help="Folder of all runs.")]
MaxLatency = Annotated[str | None, typer.Option(help="Upper limit on the target, for example 5ms.")]
MaxSize = Annotated[str | None, typer.Option(help="Upper limit of the file, for example 500kB.")]
MinAccuracy = Annotated[float | None, typer.Option(help="Lower limit, 0..1, on the selection split.")]
Knee = Annotated[bool, typer.Option("--knee", help="Take the knee of what is within the limits (the default without).")]
DataPath = Annotated[Path | None, typer.Option(help="File or folder of the data set.")]
DataOption = Annotated[list[str] | None, typer.Option(help="Setting of the data set, NAME=VALUE; repeat.")]


def open_run(run: Path | None, runs: Path) -> "RunFolder":
    """The folder of a run; the newest below `runs` where none is given.

    Raises:
        ConfigError: it is no run, or there is none yet.
    """
    from nas.results.run import load_run

    return load_run(run, runs=runs).folder


def parse_key_values(words: list[str]) -> dict[str, str]:
    """Settings NAME=VALUE by name.

    Raises:
        ConfigError: one of them has no "=".
    """
    broken = [word for word in words if "=" not in word]
    if broken:
        raise ConfigError(f"--data-option must be NAME=VALUE, but got {broken[0]!r}")
    return {name: value for name, _, value in (word.partition("=") for word in words)}
