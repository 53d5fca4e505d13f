"""Latency evaluator: the length of measurements, and when a device measures instead of a prediction."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nas.evaluation.latency_evaluator
from nas import registry
from nas.errors import MeasureError
from nas.evaluation.latency_evaluator import (
    MIN_FINAL_RUNS,
    ONLINE_PREDICTION_NOTE,
    PREDICTED_BEFORE_NOTE,
    UNTRAINED_NOTE,
    LatencyEvaluator,
)
from nas.evaluation.online_latency import SAMPLES_FILE
from nas.latency.costs import Costs
from nas.latency.latency import Latency
from nas.latency.measured.timing_loop import TimingPlan
from nas.results.run_folder import RunFolder
from nas.runtimes.base import DeviceTiming
from nas.targets.catalog import load_target

FILES = [Path("net.onnx"), Path("twin.onnx")]
KNOWN = Latency(kind="measured", device="d", runtime="r", latency_ms=1, low_ms=1, high_ms=1)
NOTHING = Costs(kernels=(), params=1, nonzero_params=1)


class Board:
    """A device that takes 2 ms for every file, or fails, and records the files."""

    name = "board"

    def __init__(self, fails: bool = False) -> None:
        self.asked: list[str] = []
        self.fails = fails

    def time_models(self, models: Sequence[Path], *_: Any, **__: Any) -> list[DeviceTiming | MeasureError]:
        self.asked += [path.name for path in models]
        if self.fails:
            return [MeasureError("it failed", log_lines=("the last line",)) for _ in models]
        return [DeviceTiming(times_ms=np.full(200, 2.0), device="a board", drift=0.0) for _ in models]


def make_evaluator(place: Path, board: Board | None = None, timer: Any = None) -> LatencyEvaluator:
    for name in ("locks", "models"):
        (place / name).mkdir(parents=True)
    return LatencyEvaluator(
        profile=load_target("jetson" if board else "cpu"), host_profile=load_target("cpu"),
        device_runtime=board, timing_worker=timer,  # type: ignore[arg-type]
        host_runtime=registry.load("runtime", "onnxruntime"), input_shape=(1, 48, 48), measures_energy=False,
        folder=RunFolder(place), log=lambda _: None,
    )  # fmt: skip


def prediction(ms: float, width: float) -> Latency:
    """A prediction whose 95 % interval reaches `width` of it to either side."""
    low, high = ms * (1 - width), ms * (1 + width)
    return Latency(kind="predicted", device="d", runtime="r", latency_ms=ms, low_ms=low, high_ms=high)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, TimingPlan]]:
    """For each measurement on this machine the number of files and the plan."""
    made: list[tuple[int, TimingPlan]] = []

    def timed(paths: list[Path] | Path, *_: Any, plan: TimingPlan, **__: Any) -> Any:
        count = len(paths) if isinstance(paths, list) else 1
        made.append((count, plan))
        found = Latency(kind="measured", device="d", runtime="r", latency_ms=1, low_ms=0.9, high_ms=1.1)
        return [found] * count if isinstance(paths, list) else found

    for name in ("measure", "measure_interleaved"):
        monkeypatch.setattr(nas.evaluation.latency_evaluator, name, timed)
    return made


def test_an_untrained_file_is_timed_for_less_than_three_seconds(
    tmp_path: Path, plans: list[tuple[int, TimingPlan]]
) -> None:
    found = make_evaluator(tmp_path).measure_untrained(FILES, [NOTHING] * 2, limit_ms=5.0)
    assert [m.latency_ms for m in found] == [1, 1]
    ((count, plan),) = plans
    assert (count, plan.early_stop_above_ms, plan.runs) == (2, 5.0, 200)
    assert plan.max_duration_s is not None
    assert plan.max_duration_s < 3
    assert plan.relative_precision > 0


def test_a_file_after_the_final_training_has_enough_runs_however_long_they_take(
    tmp_path: Path, plans: list[tuple[int, TimingPlan]]
) -> None:
    targets, hosts = make_evaluator(tmp_path).measure_final(FILES[:1], [NOTHING])
    assert targets == hosts
    ((_, plan),) = plans
    assert (plan.max_duration_s, plan.min_runs) == (None, MIN_FINAL_RUNS)
    assert MIN_FINAL_RUNS >= 200
    make_evaluator(tmp_path / "other").measure_final(FILES[:1], [NOTHING], is_final=False)
    assert plans[-1][1].max_duration_s is not None


@pytest.mark.parametrize(("limit_ms", "above"), [(0.5, True), (0.95, False), (2.0, False)])
@pytest.mark.usefixtures("plans")
def test_the_precheck_counts_the_whole_interval(tmp_path: Path, limit_ms: float, above: bool) -> None:
    assert make_evaluator(tmp_path).is_clearly_above(FILES[0], NOTHING, limit_ms) == above


def test_a_timing_worker_measures_where_there_is_one(tmp_path: Path, plans: list[tuple[int, TimingPlan]]) -> None:
    asked: list[Any] = []

    class Elsewhere:
        def measure(self, models: Sequence[Path], **more: Any) -> list[Latency]:
            asked.append((list(models), more["runtime"], more["input_shape"]))
            return [prediction(1, 0)] * len(models)

    make_evaluator(tmp_path, timer=Elsewhere()).measure_untrained(FILES, [NOTHING] * 2)
    assert asked == [(FILES, "onnxruntime", [(1, 48, 48)] * 2)]
    assert plans == []


@pytest.mark.parametrize(
    ("width", "limit_ms", "is_measured"),
    [(0.5, None, True), (0.1, None, False), (0.5, 3.0, True), (0.5, 0.4, False), (0.21, None, True)],
)
def test_a_device_measures_an_untrained_file_whose_prediction_is_uncertain_and_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: float, limit_ms: float | None, is_measured: bool
) -> None:
    monkeypatch.setattr(nas.evaluation.latency_evaluator, "predict_latency", lambda *_: prediction(1.0, width))
    board = Board()
    (found,) = make_evaluator(tmp_path, board).measure_untrained(FILES[:1], [NOTHING], limit_ms=limit_ms)
    assert board.asked == (["net.onnx"] if is_measured else [])
    assert found.kind == ("measured" if is_measured else "predicted")
    assert (tmp_path / SAMPLES_FILE).exists() == is_measured


@pytest.mark.parametrize(
    ("untrained", "enters", "is_measured", "note"),
    [
        (prediction(1.0, 0.1), False, False, ONLINE_PREDICTION_NOTE),
        (prediction(1.0, 0.1), True, True, PREDICTED_BEFORE_NOTE),
        (prediction(1.0, 0.5), False, True, PREDICTED_BEFORE_NOTE),
        (KNOWN, False, False, UNTRAINED_NOTE),
        (KNOWN, True, True, None),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("plans")
def test_a_device_measures_a_finished_file_that_may_enter_the_front(
    tmp_path: Path, untrained: Latency, enters: bool, is_measured: bool, note: str | None
) -> None:
    board = Board()
    latencies_ms: list[float] = []

    def would(latency: Latency) -> bool:
        latencies_ms.append(latency.latency_ms)
        return enters

    (found,), _ = make_evaluator(tmp_path, board).measure_final(
        FILES[:1], [NOTHING], is_final=False, untrained_latency=untrained, would_enter_front=would
    )
    assert bool(board.asked) == is_measured
    assert found.latency_ms == (2.0 if is_measured else 1.0)
    assert found.notes == ((note,) if note else ())
    assert latencies_ms == [untrained.low_ms], "a prediction counts as the lower end of its interval"


@pytest.mark.usefixtures("plans")
def test_a_device_measures_every_file_after_the_final_training(tmp_path: Path) -> None:
    board = Board()
    make_evaluator(tmp_path, board).measure_final(
        FILES, [NOTHING] * 2, is_final=True, untrained_latency=prediction(1.0, 0.01), would_enter_front=lambda _: False
    )
    assert board.asked == ["net.onnx", "twin.onnx"]


def test_the_end_of_a_devices_log_is_written_under_the_key(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="it failed"):
        make_evaluator(tmp_path, Board(fails=True)).measure_untrained(FILES[:1], [NOTHING], key="abc")
    assert (tmp_path / "models" / "abc-board.log").read_text() == "the last line\n"
