"""Garbage collector control: paused while runs are timed, or relieved of the objects of imported packages."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Switch the garbage collector off for the block. A pass takes milliseconds and would fall into a random run."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def gc_frozen() -> Iterator[None]:
    """Exclude all present objects from the collector's passes for the block.

    These are about 200,000 objects of imported packages, which no pass would free.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
