"""Garbage collector: off or relieved within a block, and restored after it."""

import gc

import pytest

from nas.latency.measured.gc_control import gc_frozen, gc_paused


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_off_in_the_block_and_restored_after_it(was_on: bool) -> None:
    try:
        if not was_on:
            gc.disable()
        with gc_paused():
            assert not gc.isenabled()
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


def test_present_objects_are_frozen_and_new_ones_are_not() -> None:
    before, old = gc.get_freeze_count(), [object()]
    with gc_frozen():
        new = [object()]
        seen = {id(each) for each in gc.get_objects()}
        assert id(old) not in seen
        assert id(new) in seen
    assert gc.get_freeze_count() == before == 0
