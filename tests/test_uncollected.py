"""The garbage collector waits, and is left as it was."""

import gc

import pytest

from nas.uncollected import uncollected


@pytest.mark.parametrize("was_on", [True, False])
def test_it_is_off_meanwhile_and_as_before_afterwards(was_on: bool) -> None:
    try:
        if not was_on:
            gc.disable()
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() == was_on
    finally:
        gc.enable()
