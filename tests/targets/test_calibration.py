"""Calibration of a target with a fake board: errors, resuming, failures and what is written."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.candidate import Candidate
from nas.errors import CandidateError, ConfigError, MeasureError, UnreachableError
from nas.latency.costs import Costs, compute_costs
from nas.latency.latency import Latency
from nas.latency.predicted.predict import predict_latency
from nas.latency.predicted.roofline import predict_roofline
from nas.targets.calibration import calibrate_target
from nas.targets.calibration_result import LatencyCalibration, prediction_errors
from nas.targets.calibration_sample import CalibrationCandidates, farthest_first
from nas.targets.catalog import load_target

BOARD = load_target("jetson-orin-nano")
Results = Sequence[Latency | MeasureError]


def timed(path: Path) -> Latency:
    """The latency on a board that takes twice as long as its profile predicts."""
    found = predict_roofline(compute_costs(path), BOARD)
    return replace(found, kind="measured", latency_ms=2 * found.latency_ms, notes=(), versions={"tensorrt": "10.3.0"})


class FakeBoard:
    """Counts the files that it times and, at one of them, calls `act` instead."""

    def __init__(self, at: int = -1, act: Callable[[], MeasureError] | None = None) -> None:
        self.timed, self._at, self._act = 0, at, act

    def __call__(self, paths: Sequence[Path]) -> Results:
        return [self._one(path) for path in paths]

    def _one(self, path: Path) -> Latency | MeasureError:
        self.timed += 1
        return self._act() if self._act and self.timed == self._at else timed(path)


def calibrated(folder: Path, measure: Callable[[Sequence[Path]], Results], nets: int = 12) -> LatencyCalibration:
    return calibrate_target(BOARD, n_models=nets, spaces=("plain",), measure_files=measure, folder=folder)


@pytest.fixture(scope="module", autouse=True)
def _written_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Export each candidate once for all tests, and draw no more candidates than are chosen."""
    kept, known = tmp_path_factory.mktemp("files"), {}
    write = CalibrationCandidates.export

    def written(self: CalibrationCandidates, candidate: Candidate, folder: Path) -> tuple[Path, Costs]:
        if candidate.key not in known:
            known[candidate.key] = write(self, candidate, kept)
        path, counted = known[candidate.key]
        return Path(shutil.copy(path, folder)), counted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CalibrationCandidates, "export", written)
        patch.setattr("nas.targets.calibration_sample.POOL_FACTOR", 1)
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> LatencyCalibration:
    return calibrated(tmp_path_factory.mktemp("calibration"), FakeBoard(), nets=20)


def test_held_out_networks_estimate_the_error(done: LatencyCalibration) -> None:
    assert (done.n_models, done.n_held_out, done.failures, done.disturbed_fraction) == (20, 4, (), 0.0)
    assert done.spearman > 0.7  # of four networks: two neighbours may swap ranks
    assert done.mean_error < 0.15
    assert done.summary_lines()[0].endswith("fitted on 20 networks")
    assert f"mean error {done.mean_error:.1%}" in done.summary_lines()[1]


def test_only_the_calibration_file_remains(done: LatencyCalibration) -> None:
    assert [p.name for p in done.path.parent.iterdir()] == ["jetson-orin-nano.json"]
    fields = json.loads(done.path.read_text())
    assert (fields["spaces"], fields["versions"]) == (["plain"], {"tensorrt": "10.3.0"})
    assert len(fields["nets"]) == 20


def test_later_predictions_use_the_calibration(done: LatencyCalibration, tmp_path: Path) -> None:
    nets = CalibrationCandidates(profile=BOARD, spaces=("plain",), input_shape=(1, 48, 48))
    errors = []
    for candidate in nets.draw(8, seed=7):
        path, counted = nets.export(candidate, tmp_path)
        found = predict_latency(counted, BOARD, folder=done.path.parent)
        assert "calibrated on 20 nets, median error" in found.notes[0]
        errors.append(abs(found.latency_ms / timed(path).latency_ms - 1))
    assert np.median(errors) < 0.15  # the profile alone is off by half


def test_killed_calibration_resumes(tmp_path: Path) -> None:
    def killed() -> MeasureError:
        raise KeyboardInterrupt

    whole, first, second = (FakeBoard(), FakeBoard(8, killed), FakeBoard())
    expected = calibrated(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        calibrated(tmp_path / "cut", first)
    journal = tmp_path / "cut" / ".jetson-orin-nano.jsonl"
    journal.write_bytes(journal.read_bytes()[:-30])  # cut off in the middle of a line
    found = calibrated(tmp_path / "cut", second)
    assert (first.timed, second.timed) == (8, 12 - 4)  # of five entries one was cut off
    assert found.model == expected.model


def test_another_request_starts_over(tmp_path: Path) -> None:
    def gone() -> MeasureError:
        return UnreachableError("connection lost")

    with pytest.raises(UnreachableError, match="connection lost; repeat the command to resume"):
        calibrated(tmp_path, FakeBoard(7, gone))
    other = FakeBoard()
    assert calibrated(tmp_path, other, nets=10).n_models == other.timed == 10


def test_network_that_fails_is_left_out_and_reported(tmp_path: Path) -> None:
    found = calibrated(tmp_path, FakeBoard(4, lambda: MeasureError("the engine could not be built")))
    assert found.n_models == 11
    assert found.summary_lines()[-1].startswith("left out: ")
    assert found.summary_lines()[-1].endswith("the engine could not be built")


def test_too_many_failures_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"needs 10 measured networks, but 5 of 12 failed: .*no kernel"):
        calibrated(tmp_path, lambda paths: [MeasureError("no kernel")] * len(paths))
    assert not list(tmp_path.iterdir())


def test_model_that_is_worse_than_the_profile_is_discarded(tmp_path: Path) -> None:
    def as_published(paths: Sequence[Path]) -> Results:
        return [predict_roofline(compute_costs(path), BOARD) for path in paths]  # no model can be more accurate

    found = calibrated(tmp_path, as_published, nets=10)
    assert (found.max_mean_error, found.is_trusted) == (0.0, False)
    assert found.summary_lines()[2].startswith("not used: the mean error must be at most 0.0%")
    assert not list(tmp_path.iterdir())


def test_busy_board_contributes_the_5th_percentile(tmp_path: Path) -> None:
    def busy(paths: Sequence[Path]) -> Results:
        found = [timed(path) for path in paths]
        notes = ("busy machine: the reference network drifted by +9.0%",)
        return [replace(m, latency_ms=9 + at, p5_ms=m.latency_ms, notes=notes) for at, m in enumerate(found)]

    found = calibrated(tmp_path, busy)
    idle = calibrated(tmp_path / "idle", FakeBoard())
    assert found.model == idle.model
    assert found.disturbed_fraction == 1.0
    assert found.summary_lines()[-1].startswith("100% of the networks were measured on a busy machine")


def test_busy_machine_contributes_the_corrected_latency(tmp_path: Path) -> None:
    def busy(paths: Sequence[Path]) -> Results:
        notes = ("busy machine: the reference network takes 25% longer than at its best",)
        return [replace(m, latency_ms=1.25 * m.latency_ms, slowdown=0.25, notes=notes) for m in map(timed, paths)]

    found, idle = calibrated(tmp_path, busy), calibrated(tmp_path / "idle", FakeBoard())
    assert found.model.prices_us == pytest.approx(idle.model.prices_us, rel=1e-6, abs=1e-9)
    assert found.summary_lines()[-1].startswith("100% of the networks were measured on a busy machine")


def test_spaces_that_cannot_be_exported_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> tuple[Path, Costs]:
        raise CandidateError("no path")

    monkeypatch.setattr(CalibrationCandidates, "export", refused)
    with pytest.raises(
        ConfigError, match="8 of 8 networks must be exported, but only 0 could: no path; name another --space"
    ):
        calibrated(tmp_path, FakeBoard(), nets=10)


def test_too_few_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs 10 networks or more, but got 9"):
        calibrated(tmp_path, FakeBoard(), nets=9)


def test_space_that_holds_too_few_networks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    nets = CalibrationCandidates(profile=BOARD, spaces=("plain",), input_shape=(1, 48, 48))
    (same,) = nets.draw(1, seed=0)
    monkeypatch.setattr("nas.targets.calibration_sample.random_candidate", lambda *_: same)
    with pytest.raises(ConfigError, match="20 different networks must be drawn, but plain gave"):
        nets.draw(20, seed=0)


def test_every_second_network_has_one_bit_width_and_all_occur() -> None:
    drawn = CalibrationCandidates(profile=BOARD, spaces=("plain",), input_shape=(1, 48, 48)).draw(40, seed=1)
    uniform = [set(c.bits.values()) for c in drawn if len(set(c.bits.values())) == 1]
    assert len(uniform) >= 18
    assert {width for bits in uniform for width in bits} == set(BOARD.precisions)


def test_farthest_points_are_chosen_once_each() -> None:
    line = np.array([[0.0], [1.0], [2.0], [9.0], [10.0]])
    assert sorted(farthest_first(line, 2)) == [0, 4]
    assert sorted(farthest_first(line, 9)) == [0, 1, 2, 3, 4]
    assert sorted(farthest_first(np.zeros((3, 2)), 3)) == [0, 1, 2]
    assert farthest_first(np.zeros((0, 2)), 3) == []


def test_errors_match_their_definitions() -> None:
    found = prediction_errors(np.array([1.0, 2.1, 3.3, 5.0]), np.array([1.0, 2.0, 4.0, 3.0]))
    assert found["spearman"] == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert found["mean_error"] == pytest.approx((0 + 0.05 + 0.175 + 2 / 3) / 4)
    assert found["within_10"] == pytest.approx(0.5)


@pytest.mark.slow  # half a minute of measuring
def test_this_machine_can_be_calibrated(tmp_path: Path) -> None:
    said: list[str] = []
    found = calibrate_target("cpu", n_models=10, spaces=("plain",), folder=tmp_path, log=said.append)
    assert found.n_models == 10
    assert found.model.runtime == "onnxruntime"
    assert said[-1].startswith("10 of 10 networks measured")
    assert [p.name for p in tmp_path.iterdir()] == (["cpu.json"] if found.is_trusted else [])
