"""Choice of the predictor: a calibration, else the profile."""

from dataclasses import replace
from pathlib import Path

import pytest

from hw_profiles.jetson import PROFILES
from nas.errors import ConfigError
from nas.latency.costs import Costs, Kernel
from nas.latency.predicted import roofline
from nas.latency.predicted.learned_roofline import VERSION, LearnedRoofline, fit_learned_roofline
from nas.latency.predicted.predict import (
    calibration_fingerprint,
    calibration_path,
    load_calibration,
    predict_latency,
    predict_layers_ms,
    save_calibration,
)

PROFILE = PROFILES["jetson"]
NET = Costs(
    kernels=(Kernel(name="k", kind="pool", macs=0, input_bytes=8, output_bytes=8, weight_bytes=0, bits=16),),
    params=1,
    nonzero_params=1,
)


def model() -> LearnedRoofline:
    nets = [replace(NET, kernels=NET.kernels * n) for n in range(1, 9)]
    return fit_learned_roofline(nets, [0.1 * n for n in range(1, 9)], PROFILE)


def test_without_a_calibration_the_profile_predicts(tmp_path: Path) -> None:
    assert predict_latency(NET, PROFILE, folder=tmp_path) == roofline.predict_roofline(NET, PROFILE)
    assert load_calibration(PROFILE, folder=tmp_path) is None


def test_a_calibration_predicts_and_is_named(tmp_path: Path) -> None:
    path = save_calibration(model(), PROFILE, {"device": "my board"}, folder=tmp_path / "new")
    found = predict_latency(NET, PROFILE, folder=tmp_path / "new")
    assert found == model().predict(NET)
    assert found.versions["predictor"] == VERSION
    assert [p.name for p in path.parent.iterdir()] == ["jetson-orin-nano.json"]


def test_a_new_calibration_replaces_the_old(tmp_path: Path) -> None:
    save_calibration(model(), PROFILE, {}, folder=tmp_path)
    first = predict_latency(NET, PROFILE, folder=tmp_path).latency_ms
    save_calibration(replace(model(), prices_us=tuple(2 * p for p in model().prices_us)), PROFILE, {}, folder=tmp_path)
    assert predict_latency(NET, PROFILE, folder=tmp_path).latency_ms == pytest.approx(2 * first)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 7}', '{"format": 1, "model": {}}', "[1]"])
def test_a_file_that_is_no_calibration_is_refused_by_name(tmp_path: Path, text: str) -> None:
    calibration_path(PROFILE, folder=tmp_path).write_text(text)
    with pytest.raises(ConfigError, match=r"jetson-orin-nano.json must be a calibration .* calibrate again"):
        predict_latency(NET, PROFILE, folder=tmp_path)


def test_layers_are_predicted_by_the_calibration(tmp_path: Path) -> None:
    by_profile = predict_layers_ms(NET, PROFILE, folder=tmp_path)
    assert by_profile == (("k", roofline.predict_kernel_us(NET.kernels[0], PROFILE) / 1e3),)
    save_calibration(model(), PROFILE, {}, folder=tmp_path)
    ((name, learned),) = predict_layers_ms(NET, PROFILE, folder=tmp_path)
    assert name == "k"
    assert 0 < learned <= predict_latency(NET, PROFILE, folder=tmp_path).latency_ms


def test_calibrations_with_other_coefficients_have_other_fingerprints(tmp_path: Path) -> None:
    assert calibration_fingerprint(PROFILE, folder=tmp_path) is None
    save_calibration(model(), PROFILE, {"device": "one"}, folder=tmp_path)
    first = calibration_fingerprint(PROFILE, folder=tmp_path)
    save_calibration(model(), PROFILE, {"device": "the same prices"}, folder=tmp_path)
    assert calibration_fingerprint(PROFILE, folder=tmp_path) == first
    save_calibration(replace(model(), prices_us=tuple(2 * p for p in model().prices_us)), PROFILE, {}, folder=tmp_path)
    assert calibration_fingerprint(PROFILE, folder=tmp_path) != first
