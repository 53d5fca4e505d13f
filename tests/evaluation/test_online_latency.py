"""What a search learns of a board: from nets it timed there, for those it did not."""

from pathlib import Path

import pytest

from nas.evaluation.online_latency import MIN_SAMPLES, REFIT_EVERY, OnlineLatencyModel, is_confident
from nas.latency.costs import Costs
from nas.latency.estimate import Latency
from nas.latency.predicted.roofline import predict_roofline
from nas.results.run_folder import RunFolder
from nas.targets.catalog import load_target
from tests.latency.predicted.test_learned_roofline import NETS

BOARD = load_target("jetson")


def a_screen(place: Path) -> OnlineLatencyModel:
    (place / "locks").mkdir(parents=True)
    return OnlineLatencyModel(folder=RunFolder(place), profile=BOARD)


def timed(net: Costs) -> Latency:
    """What a board says that is half as fast as its profile."""
    ms = 2 * predict_roofline(net, BOARD).latency_ms
    return Latency(kind="measured", device="d", runtime="r", latency_ms=ms, low_ms=ms, high_ms=ms)


def fill(screen: OnlineLatencyModel, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        screen.add(f"key{number}", NETS[number], timed(NETS[number]))


def test_it_learns_from_the_tenth_on_and_then_is_right_and_says_so(tmp_path: Path) -> None:
    screen = a_screen(tmp_path)
    fill(screen, MIN_SAMPLES - 1)
    assert screen.predict(NETS[-1]) is None
    fill(screen, 30 - MIN_SAMPLES + 1, start=MIN_SAMPLES - 1)
    unseen = NETS[60:]
    found = [screen.predict(net) for net in unseen]
    errors = sorted(abs(f.latency_ms / timed(net).latency_ms - 1) for f, net in zip(found, unseen, strict=True) if f)
    assert len(errors) == len(unseen)
    assert errors[len(errors) // 2] < 0.1
    assert all(f is not None and f.kind == "predicted" for f in found)


def test_it_learns_again_with_every_fifth_net_and_for_all_processes(tmp_path: Path) -> None:
    screen = a_screen(tmp_path)
    fill(screen, MIN_SAMPLES)
    first = screen.model
    assert first is not None
    assert first.samples == MIN_SAMPLES
    fill(screen, REFIT_EVERY - 1, start=MIN_SAMPLES)
    assert screen.model is first
    fill(OnlineLatencyModel(folder=RunFolder(tmp_path), profile=BOARD), 1, start=MIN_SAMPLES + REFIT_EVERY - 1)
    again = screen.model
    assert again is not None
    assert again.samples == MIN_SAMPLES + REFIT_EVERY


def test_a_net_that_was_timed_twice_is_one_sample(tmp_path: Path) -> None:
    screen = a_screen(tmp_path)
    fill(screen, MIN_SAMPLES // 2)
    fill(screen, MIN_SAMPLES // 2)
    assert screen.model is None
    fill(screen, MIN_SAMPLES)
    assert screen.model is not None
    assert screen.model.samples == MIN_SAMPLES


@pytest.mark.parametrize(("width", "sure"), [(0.0, True), (0.19, True), (0.2, False), (1.0, False)])
def test_ten_per_cent_of_standard_error_are_sure_enough(width: float, sure: bool) -> None:
    found = Latency(
        kind="predicted", device="d", runtime="r", latency_ms=2.0, low_ms=2 - 2 * width, high_ms=2 + 2 * width
    )
    assert is_confident(found) == sure
