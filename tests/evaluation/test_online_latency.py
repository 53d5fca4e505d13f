"""Online latency model: predictions for networks that the device has not timed, from those that it has."""

from pathlib import Path

import pytest

from nas.evaluation.online_latency import MIN_SAMPLES, REFIT_EVERY, OnlineLatencyModel, is_confident
from nas.latency.costs import Costs
from nas.latency.latency import Latency
from nas.latency.predicted.roofline import predict_roofline
from nas.results.run_folder import RunFolder
from nas.targets.catalog import load_target
from tests.latency.predicted.test_learned_roofline import NETS

BOARD = load_target("jetson")


def make_model(place: Path) -> OnlineLatencyModel:
    (place / "locks").mkdir(parents=True)
    return OnlineLatencyModel(folder=RunFolder(place), profile=BOARD)


def timed(net: Costs) -> Latency:
    """Latency of a device that is half as fast as its profile."""
    ms = 2 * predict_roofline(net, BOARD).latency_ms
    return Latency(kind="measured", device="d", runtime="r", latency_ms=ms, low_ms=ms, high_ms=ms)


def fill(online: OnlineLatencyModel, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        online.add(f"key{number}", NETS[number], timed(NETS[number]))


def test_it_predicts_from_ten_samples_on_with_a_median_error_below_10_percent(tmp_path: Path) -> None:
    online = make_model(tmp_path)
    fill(online, MIN_SAMPLES - 1)
    assert online.predict(NETS[-1]) is None
    fill(online, 30 - MIN_SAMPLES + 1, start=MIN_SAMPLES - 1)
    unseen = NETS[60:]
    found = [online.predict(net) for net in unseen]
    errors = sorted(abs(f.latency_ms / timed(net).latency_ms - 1) for f, net in zip(found, unseen, strict=True) if f)
    assert len(errors) == len(unseen)
    assert errors[len(errors) // 2] < 0.1
    assert all(f is not None and f.kind == "predicted" for f in found)


def test_it_is_fitted_again_after_five_samples_of_any_process(tmp_path: Path) -> None:
    online = make_model(tmp_path)
    fill(online, MIN_SAMPLES)
    first = online.model
    assert first is not None
    assert first.samples == MIN_SAMPLES
    fill(online, REFIT_EVERY - 1, start=MIN_SAMPLES)
    assert online.model is first
    fill(OnlineLatencyModel(folder=RunFolder(tmp_path), profile=BOARD), 1, start=MIN_SAMPLES + REFIT_EVERY - 1)
    again = online.model
    assert again is not None
    assert again.samples == MIN_SAMPLES + REFIT_EVERY


def test_a_network_that_was_timed_twice_is_one_sample(tmp_path: Path) -> None:
    online = make_model(tmp_path)
    fill(online, MIN_SAMPLES // 2)
    fill(online, MIN_SAMPLES // 2)
    assert online.model is None
    fill(online, MIN_SAMPLES)
    assert online.model is not None
    assert online.model.samples == MIN_SAMPLES


@pytest.mark.parametrize(("width", "is_sure"), [(0.0, True), (0.19, True), (0.2, False), (1.0, False)])
def test_a_prediction_is_confident_up_to_ten_per_cent_of_standard_error(width: float, is_sure: bool) -> None:
    found = Latency(
        kind="predicted", device="d", runtime="r", latency_ms=2.0, low_ms=2 - 2 * width, high_ms=2 + 2 * width
    )
    assert is_confident(found) == is_sure
