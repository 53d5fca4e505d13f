"""Breakdown by ONNX Runtime's profiler: of made-up events with known sums, and of a real profile."""

from pathlib import Path
from typing import Any

import pytest

from nas.errors import MeasureError
from nas.runtimes.backends.onnxruntime import RUNTIME
from nas.runtimes.ort.breakdown import breakdown_of
from nas.runtimes.reference_network import INPUT_SHAPE, reference_path


def run(start: int, nodes: list[tuple[str, int]], *, between: int, around: int) -> list[dict[str, Any]]:
    """Events of one run, which the profiler writes when each ends: nodes, executor, run."""
    events, at = [], start
    for op, us in nodes:
        event = {"cat": "Node", "name": f"{op}1_kernel_time", "ts": at, "dur": us, "args": {"op_name": op}}
        events += [event, {"cat": "Node", "name": f"{op}1_fence_before", "ts": at, "dur": 0, "args": {"op_name": op}}]
        at += us
    whole = at - start + between
    events.append({"cat": "Session", "name": "SequentialExecutor::Execute", "ts": start, "dur": whole})
    events.append({"cat": "Session", "name": "model_run", "ts": start, "dur": whole + around})
    return events


def test_parts_are_medians_by_operator_and_what_is_outside() -> None:
    events = [{"cat": "Session", "name": "model_loading_uri", "ts": 0, "dur": 9}]
    for at, conv in enumerate((50, 60, 900)):
        nodes = [("Conv", conv), ("ReorderOutput", 20), ("Conv", 10)]
        events += run(10_000 * (at + 1), nodes, between=16, around=4)
    found = breakdown_of(events, title="net")
    assert [(part.name, part.ms) for part in found.parts] == [
        ("Conv", pytest.approx(0.07)), ("ReorderOutput", pytest.approx(0.02)),
        ("between nodes", pytest.approx(0.016)), ("around the nodes", pytest.approx(0.004)),
    ]  # fmt: skip
    assert [part.detail for part in found.parts[:2]] == ["2 nodes", "1 node"]
    assert "median of 3 runs" in found.remarks[0]
    assert "changes of layout: 18% (ReorderOutput 18%); channels in multiples" in found.remarks[1]
    assert "18% is outside all nodes" in found.remarks[2]
    assert "left out: the camera" in found.remarks[-1]


def test_small_changes_of_precision_are_named_without_advice() -> None:
    found = breakdown_of(run(0, [("Conv", 950), ("Cast", 50)], between=0, around=0), title="net")
    assert [remark for remark in found.remarks if "changes" in remark] == ["changes of precision: 5% (Cast 5%)"]
    assert not any("outside" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    "events", [[], run(0, [], between=1, around=1), run(0, [("Conv", 5)], between=0, around=0)[:-1]]
)
def test_a_profile_without_a_complete_run_is_refused(events: list[dict[str, Any]]) -> None:
    with pytest.raises(MeasureError, match="must hold a complete run, but holds none"):
        breakdown_of(events, title="net")


def test_a_real_profile_names_the_convolutions_and_adds_up() -> None:
    found = RUNTIME.time_breakdown(reference_path(), input_shape=INPUT_SHAPE)
    by_name = {part.name: part for part in found.parts}
    assert by_name["Conv"].detail == "3 nodes"
    assert by_name["Conv"].ms > 0
    assert found.total_ms == pytest.approx(sum(part.ms for part in found.parts))
    assert Path(reference_path()).name in found.title
