"""Forecast of what further epochs would gain: on curves in closed form, on a measured one, and in words."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.results.search_end import describe_search_end
from nas.results.training_forecast import describe_gains, forecast_gain, learning_points
from tests.fake_runs import a_run, some_record

MEASURED = ((20, 0.615), (30, 0.630), (40, 0.643), (50, 0.647), (60, 0.649), (69, 0.651))
"""Epochs and PublicTest accuracy of a network of 417,000 weights, one standard error 0.008."""


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_the_rest_of_a_measured_curve_is_within_the_interval(n: int) -> None:
    epochs, accuracies = zip(*MEASURED[:n], strict=True)
    last, reached = MEASURED[-1]
    found = forecast_gain(epochs, accuracies, n_images=3589, factor=last / epochs[-1])
    assert found.low < reached - accuracies[-1] < found.high


@pytest.mark.parametrize("power", [0.3, 0.6, 1.2])
def test_a_power_law_without_noise_gains_at_most_what_it_says(power: float) -> None:
    epochs = np.array([1.0, 3.0, 9.0, 27.0])
    curve = 0.7 - 0.25 * epochs**-power
    truth = 0.25 * (27**-power - 54**-power)
    found = forecast_gain(epochs.tolist(), curve.tolist(), n_images=10**7, factor=2)
    assert found.low < 0.55 * truth < found.high  # the mean share that is reached
    assert 0.2 * truth < found.gain < 1.2 * truth


def test_less_is_expected_of_a_flat_curve_a_late_one_and_a_shorter_training() -> None:
    steep, flat = (0.40, 0.50, 0.60), (0.590, 0.597, 0.60)
    by_slope = [forecast_gain((5, 10, 20), y, n_images=3589, factor=2).gain for y in (steep, flat)]
    assert by_slope[0] > 3 * by_slope[1]
    by_factor = [forecast_gain((5, 10, 20), steep, n_images=3589, factor=k).gain for k in (4, 2, 1.1)]
    assert all(a > b for a, b in pairwise(by_factor))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=5),
    st.integers(1, 10**6),
    st.floats(1.01, 100),
)
def test_any_curve_has_an_ordered_interval_within_what_is_possible(
    accuracies: list[float], n_images: int, factor: float
) -> None:
    found = forecast_gain([3.0**i for i in range(len(accuracies))], accuracies, n_images=n_images, factor=factor)
    assert 0 <= found.low <= found.high <= 1 - accuracies[-1]
    assert 0 <= found.gain <= 1 - accuracies[-1]


def test_points_are_those_of_the_rungs_the_search_and_the_final_training(tmp_path: Path) -> None:
    searched, final = some_record(0, 0.50, 1.0), some_record(0, 0.60, 1.0, phase="verified", epochs=23.0)
    records = [searched, some_record(1, 0.9, 4.9), final]
    folder = a_run(tmp_path, records=records, rungs=(1 / 9, 1 / 3, 1.0))
    lines = [(searched.key, 1, 0.31), (searched.key, 2, 0.42), (records[1].key, 1, 0.99), (searched.key, 9, 0.99)]
    text = "".join(json.dumps({"key": k, "rung": rung, "values": [a, 1.0]}) + "\n" for k, rung, a in lines)
    folder.write("rungs.jsonl", text)
    found = learning_points(folder, records, final)
    assert found == [(pytest.approx(1 / 3), 0.31), (pytest.approx(1.0), 0.42), (3.0, 0.5), (23.0, 0.6)]
    taught = replace(final, teacher="logits of big.onnx")
    assert learning_points(folder, [searched, taught], taught) == [(23.0, 0.6)]
    assert learning_points(folder, [final], final) == [(23.0, 0.6)]


def test_members_that_would_gain_come_with_the_command_that_trains_them_on(tmp_path: Path) -> None:
    records = [
        some_record(0, 0.50, 1.0), some_record(1, 0.40, 2.0),
        some_record(0, 0.503, 1.0, phase="verified", epochs=23.0),
        some_record(1, 0.70, 2.0, phase="verified", epochs=10.0, seconds={"train": 100.0}),
    ]  # fmt: skip
    folder = a_run(tmp_path, records=records)
    flat, steep = describe_gains(folder, records)
    assert flat.startswith("trial 0: 46 epochs in place of 23 would gain +0.")
    assert flat.endswith("not worth it")
    assert steep.startswith("trial 1: 20 epochs in place of 10 would gain +")
    assert f"in about 4:00: nas train --model {folder.path}:{records[1].key[:8]} --epochs 20" in steep
    assert set(describe_gains(folder, records)) <= set(describe_search_end(folder, records))
    assert describe_gains(folder, records[:2]) == []
    folder.write("data.json", json.dumps({"n_folds": 3}))
    assert "in about 12:00: nas train" in describe_gains(folder, records)[1]
    assert describe_gains(a_run(tmp_path / "m", records=[], model="resnet8"), records) == []
