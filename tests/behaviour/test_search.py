"""A search with a fixed seed: the same candidates, figures and bytes as recorded.

Covered:

- initial configurations, the sampler's first proposals, and those after its first fit
- rungs and promotion, pruning in steps
- INT8, where it is faster and where it is not
- final training of the front, with quantisation-aware training
- all four execution formats of a CPU
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour import commands, machine, searches

RECORDED: dict[str, Any] = json.loads((commands.DATA / "search.json").read_text())


@pytest.mark.slow
def test_a_search_by_trials_repeats(tmp_path: Path) -> None:
    found = searches.search(tmp_path, RECORDED["executions"])
    first = [
        [commands.untrained(each) for each in records[: searches.SEEDED]] for records in (found, RECORDED["records"])
    ]
    assert first[0] == first[1]
    if changed := machine.differences(RECORDED["machine"]):
        pytest.skip(f"keys after the first {searches.SEEDED}, and trained bytes, are of another machine: {changed}")
    assert [each["key"] for each in found] == [each["key"] for each in RECORDED["records"]]
    for mine, theirs in zip(found, RECORDED["records"], strict=True):
        assert mine == theirs


def test_the_recording_holds_every_kind_of_outcome() -> None:
    records = RECORDED["records"]
    assert {each["status"] for each in records} == {"complete", "infeasible"}
    assert {each["rung"] for each in records} == {0, 1, 2}
    assert len(records) > searches.SEEDED + 2
    assert any(each["speedup"] and each["speedup"] > 1 for each in records if each["phase"] == "verified")
    assert {json.dumps(form) for form in RECORDED["executions"].values()} == {json.dumps(f) for f in searches.FORMS}
