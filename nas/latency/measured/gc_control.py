"""Work during which the garbage collector waits, or has less to look at."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Keep the garbage collector off, where it was on: its passes come at moments of its own choice."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def gc_frozen() -> Iterator[None]:
    """Leave all that exists already out of the collector's passes meanwhile.

    Those are the objects of imported packages, 200,000 of them, which no pass will ever free.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
