"""Exit of a command that cannot continue: one line on standard error, and an exit status."""

import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from nas.errors import NasError, describe_system_error, is_lack_of_room, printable

P = ParamSpec("P")
R = TypeVar("R")

LACK_OF_ROOM_STATUS = 1
"""The machine lacks room or memory; the same command may succeed later."""
USER_ERROR_STATUS = 2
INTERRUPTED_STATUS = 130
"""128 + SIGINT, as shells report it."""
BROKEN_PIPE_STATUS = 141
"""128 + SIGPIPE."""


def handle_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command end with one line and an exit status where an input, the system or the user stops it.

    Errors of the operating system and of text encoding count as errors of an input, because paths, data and settings
    come from the user; a lack of room or of memory does not, and has a status of its own. The traceback goes to the
    debug log, and notes of the exception become part of the line. Any other exception is a fault of this package and
    keeps its traceback.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except NasError as error:
            message, status = printable(str(error)), USER_ERROR_STATUS  # a path or a name may hold anything
        except BrokenPipeError:  # `nas table | head`: the reader has what it wants
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes at its exit
            raise typer.Exit(BROKEN_PIPE_STATUS) from None
        except (OSError, MemoryError, UnicodeError) as error:
            logging.getLogger(__name__).debug("traceback of the error", exc_info=True)
            message = "; ".join([describe_system_error(error), *getattr(error, "__notes__", ())])
            is_lack = isinstance(error, MemoryError) or is_lack_of_room(error)
            status = LACK_OF_ROOM_STATUS if is_lack else USER_ERROR_STATUS
        except KeyboardInterrupt:
            message, status = "stopped; the same command resumes", INTERRUPTED_STATUS
        typer.echo(f"nas: {message}", err=True)
        raise typer.Exit(status)

    return wrapped
