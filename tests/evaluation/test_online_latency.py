"""What a search learns of a board: from nets it timed there, for those it did not."""

from pathlib import Path

import pytest

from nas.evaluation.online_latency import EVERY, LEAST, Screen, is_sure
from nas.latency.costs import Costs
from nas.latency.estimate import Measurement
from nas.latency.predicted.roofline import predict as by_profile
from nas.results.run_folder import RunFolder
from nas.targets.catalog import target
from tests.latency.predicted.test_learned_roofline import NETS

BOARD = target("jetson")


def a_screen(place: Path) -> Screen:
    (place / "locks").mkdir(parents=True)
    return Screen(folder=RunFolder(place), profile=BOARD)


def timed(net: Costs) -> Measurement:
    """What a board says that is half as fast as its profile."""
    ms = 2 * by_profile(net, BOARD).latency_ms
    return Measurement(kind="measured", device="d", runtime="r", latency_ms=ms, low_ms=ms, high_ms=ms)


def fill(screen: Screen, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        screen.add(f"key{number}", NETS[number], timed(NETS[number]))


def test_it_learns_from_the_tenth_on_and_then_is_right_and_says_so(tmp_path: Path) -> None:
    screen = a_screen(tmp_path)
    fill(screen, LEAST - 1)
    assert screen.predict(NETS[-1]) is None
    fill(screen, 30 - LEAST + 1, start=LEAST - 1)
    unseen = NETS[60:]
    found = [screen.predict(net) for net in unseen]
    errors = sorted(abs(f.latency_ms / timed(net).latency_ms - 1) for f, net in zip(found, unseen, strict=True) if f)
    assert len(errors) == len(unseen)
    assert errors[len(errors) // 2] < 0.1
    assert all(f is not None and f.kind == "predicted" for f in found)


def test_it_learns_again_with_every_fifth_net_and_for_all_processes(tmp_path: Path) -> None:
    screen = a_screen(tmp_path)
    fill(screen, LEAST)
    first = screen.model
    assert first is not None
    assert first.samples == LEAST
    fill(screen, EVERY - 1, start=LEAST)
    assert screen.model is first
    fill(Screen(folder=RunFolder(tmp_path), profile=BOARD), 1, start=LEAST + EVERY - 1)
    again = screen.model
    assert again is not None
    assert again.samples == LEAST + EVERY


def test_a_net_that_was_timed_twice_is_one_sample(tmp_path: Path) -> None:
    screen = a_screen(tmp_path)
    fill(screen, LEAST // 2)
    fill(screen, LEAST // 2)
    assert screen.model is None
    fill(screen, LEAST)
    assert screen.model is not None
    assert screen.model.samples == LEAST


@pytest.mark.parametrize(("width", "sure"), [(0.0, True), (0.19, True), (0.2, False), (1.0, False)])
def test_ten_per_cent_of_standard_error_are_sure_enough(width: float, sure: bool) -> None:
    found = Measurement(
        kind="predicted", device="d", runtime="r", latency_ms=2.0, low_ms=2 - 2 * width, high_ms=2 + 2 * width
    )
    assert is_sure(found) == sure
