"""The default sampler on known tables: the same proposals in the same order as recorded.

On another machine than that of the recording, sums may differ in their last bits, and a proposal with them. There the
first trials, which precede the first fit, must be the same, and the share of the true hypervolume at the end must be
within 0.05.
"""

import json
from typing import Any

import pytest

from tests.behaviour import commands, machine, replays

SPREAD_OUT = 10
"""Trials before the first fit of the sampler."""
FAR = 0.05
"""Largest difference of the final share of the hypervolume on another machine; seeds differ by more."""


@pytest.mark.data
@pytest.mark.parametrize("name", ["jetson_tx2", "jetson_nano"])
def test_a_replay_of_nas_bench_201_repeats(name: str) -> None:
    if not replays.nb201_file().exists():
        pytest.skip(f"needs the table of NAS-Bench-201: there is no {replays.nb201_file()}; set NAS_SHARED")
    assert_repeats(name)


def test_a_replay_of_own_nets_repeats() -> None:
    assert_repeats("own_nets")


def assert_repeats(name: str) -> None:
    recorded: dict[str, Any] = json.loads((commands.DATA / f"replay-{name}.json").read_text())
    found = replays.in_own_process(name)
    changed = machine.differences(recorded["machine"])
    if changed and found["asked"] != recorded["asked"]:
        assert found["asked"][:SPREAD_OUT] == recorded["asked"][:SPREAD_OUT]
        assert found["share"][-1] == pytest.approx(recorded["share"][-1], abs=FAR)
        pytest.skip(f"trials after the first {SPREAD_OUT} are of another machine: {changed}")
    assert found["asked"] == recorded["asked"]
    assert found["share"] == (pytest.approx(recorded["share"], rel=1e-12) if changed else recorded["share"])
