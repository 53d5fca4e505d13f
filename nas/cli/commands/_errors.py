"""How a command ends that cannot go on."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from nas.errors import NasError

P = ParamSpec("P")
R = TypeVar("R")


def handle_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors made on purpose into one line and an exit status."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except NasError as error:
            typer.echo(f"nas: {error}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("nas: stopped; the same command goes on where it stopped", err=True)
            raise typer.Exit(130) from None

    return wrapped
