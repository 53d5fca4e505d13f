from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.calibrate import CalibrationResult, calibrate, farthest
from nas.costs import costs
from nas.errors import ConfigError, MeasureError
from nas.latency.prediction import predict
from nas.latency.roofline import predict as by_profile
from nas.measure import Measurement
from nas.targets import target

BOARD = target("jetson-orin-nano")


def board(path: Path) -> Measurement:
    """A board that is half as fast as its profile says."""
    found = by_profile(costs(path), BOARD)
    return replace(found, kind="measured", latency_ms=2 * found.latency_ms, notes=(), versions={"tensorrt": "10.3.0"})


def calibrated(folder: Path, measure: Callable[[Path], Measurement] = board, nets: int = 15) -> CalibrationResult:
    return calibrate(BOARD, nets=nets, space="plain", measure=measure, folder=folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> CalibrationResult:
    return calibrated(tmp_path_factory.mktemp("calibration"), nets=20)


def test_held_out_nets_say_how_good_it_is(done: CalibrationResult) -> None:
    assert (done.nets, done.held_out, done.failed, done.disturbed) == (20, 4, (), 0.0)
    assert done.spearman > 0.7  # of four nets: two neighbours may change places
    assert done.mean_error < 0.15
    assert "learned from 20 nets in" in done.lines()[0]


def test_predictions_go_by_it_from_now_on(done: CalibrationResult, tmp_path: Path) -> None:
    errors = []

    def look(path: Path) -> Measurement:
        found = board(path)
        errors.append(abs(predict(costs(path), BOARD, folder=done.path.parent).latency_ms / found.latency_ms - 1))
        return found

    calibrate(BOARD, nets=10, space="plain", measure=look, folder=tmp_path, seed=7)
    assert np.median(errors) < 0.15  # the profile alone is off by half


def test_a_net_that_fails_is_left_out_and_told(tmp_path: Path) -> None:
    calls, seen = iter(range(100)), []

    def sometimes(path: Path) -> Measurement:
        if next(calls) == 3:
            raise MeasureError("the engine could not be built")
        return board(path)

    found = calibrate(
        BOARD, nets=12, space="plain", measure=sometimes, folder=tmp_path, progress=lambda *at: seen.append(at)
    )
    assert found.nets == 11
    assert found.failed[0].endswith("the engine could not be built")
    assert seen[-1] == (12, 12)


def test_a_board_that_is_gone_is_no_calibration(tmp_path: Path) -> None:
    def gone(path: Path) -> Measurement:
        raise MeasureError("connection lost")

    with pytest.raises(MeasureError, match=r"needs 10 measured nets, but 1 of 10 failed: .*connection lost"):
        calibrated(tmp_path, gone, nets=10)
    assert not list(tmp_path.iterdir())


def test_too_few_nets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs 10 nets or more, but got 9"):
        calibrated(tmp_path, nets=9)


def test_a_device_that_is_elsewhere_needs_a_way_to_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="come with a way to measure on it"):
        calibrate("jetson", folder=tmp_path)


def test_the_farthest_points_are_taken_once_each() -> None:
    line = np.array([[0.0], [1.0], [2.0], [9.0], [10.0]])
    assert sorted(farthest(line, 2)) == [0, 4]
    assert sorted(farthest(line, 9)) == [0, 1, 2, 3, 4]
    assert sorted(farthest(np.zeros((3, 2)), 3)) == [0, 1, 2]
