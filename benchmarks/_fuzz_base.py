"""Contract of a kind of input, and what reading one must give.

What is read must also be possible: figures are finite and in their range. An `ImpossibleError` says otherwise and
counts as a traceback, because a wrong result without a word is the worst fault.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nas
from benchmarks._fuzz_mutation import Files, mutate


class ImpossibleError(Exception):
    """Something was read that cannot be."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of input.

    Attributes:
        name: on the command line.
        seeds: valid inputs.
        read: reads the files in a folder by every function that a user's files of this kind reach; the generator
            chooses among options.
        change: makes another input of a valid one.
    """

    name: str
    seeds: Callable[[], Sequence[Files]]
    read: Callable[[Path, random.Random], None]
    change: Callable[[Files, random.Random], Files] = mutate


def require(possible: object, what: str) -> None:
    if not possible:
        raise ImpossibleError(what)


def attempt(read: Callable[[], object]) -> None:
    """Read by one function of several, each of which may refuse."""
    try:
        read()
    except nas.NasError as error:
        require_line(error)


def require_line(error: Exception) -> None:
    require(str(error).isprintable() and str(error), f"a refusal that is no line: {str(error)[:200]!r}")


def attempt_at_the_door(read: Callable[[], object]) -> None:
    """Read as a command does, for which an error of the system is one line, too."""
    try:
        attempt(read)
    except (OSError, MemoryError, UnicodeError):
        return
