"""The garbage collector waits or looks at less, and is left as it was."""

import gc

import pytest

from nas.latency.measured.gc_control import gc_frozen, gc_paused


@pytest.mark.parametrize("was_on", [True, False])
def test_it_is_off_meanwhile_and_as_before_afterwards(was_on: bool) -> None:
    try:
        if not was_on:
            gc.disable()
        with gc_paused():
            assert not gc.isenabled()
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


def test_what_was_there_is_left_out_and_what_comes_is_not() -> None:
    before, old = gc.get_freeze_count(), [object()]
    with gc_frozen():
        new = [object()]
        seen = {id(each) for each in gc.get_objects()}
        assert id(old) not in seen
        assert id(new) in seen
    assert gc.get_freeze_count() == before == 0
