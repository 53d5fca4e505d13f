"""Predicted latency of a file on a device that is not at hand: by the device's calibration, else by its profile.

A calibration (`nas targets calibrate`) is one file for each target, `nas.calibration/<target>.json` in the working
directory, beside the nas.toml that names the boards. It is written atomically and can be copied to other machines.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from hw_profiles._base import HardwareProfile
from nas.errors import ConfigError, one_line
from nas.files import read_json, write_atomic
from nas.latency.costs import Costs
from nas.latency.latency import Latency
from nas.latency.predicted import learned_roofline as learned
from nas.latency.predicted import roofline
from nas.latency.predicted.learned_roofline import LearnedRoofline

CALIBRATION_FOLDER = Path("nas.calibration")
CALIBRATION_FORMAT = 1
CURRENT_PREDICTORS = frozenset({roofline.VERSION, learned.VERSION})
"""Predictors of this version of the package. Predictions of any other are not comparable with them."""


def predict_latency(costs: Costs, profile: HardwareProfile, *, folder: Path = CALIBRATION_FOLDER) -> Latency:
    """Predict the latency of a file, with its interval and the name of the predictor.

    Args:
        costs: costs of the file.
        profile: the device.
        folder: folder of the calibrations.

    Raises:
        ConfigError: the device has neither a calibration nor a latency model, or the calibration cannot be read.
    """
    model = load_calibration(profile, folder=folder)
    return roofline.predict_roofline(costs, profile) if model is None else model.predict(costs)


def predict_layers_ms(
    costs: Costs, profile: HardwareProfile, *, folder: Path = CALIBRATION_FOLDER
) -> tuple[tuple[str, float], ...]:
    """Predict name and milliseconds of each kernel, in order.

    Raises:
        ConfigError: as `predict_latency`.
    """
    model = load_calibration(profile, folder=folder)
    if model is None:
        return tuple((kernel.name, roofline.predict_kernel_us(kernel, profile) / 1e3) for kernel in costs.kernels)
    return tuple((name, us / 1e3) for name, us in model.layers_us(costs)[:-1])


def calibration_fingerprint(profile: HardwareProfile, *, folder: Path = CALIBRATION_FOLDER) -> str | None:
    """Short hash of the calibration that a target is predicted by; None where it has none.

    It covers the model only: a repeated calibration with the same coefficients has the same fingerprint.

    Raises:
        ConfigError: the calibration cannot be read.
    """
    model = load_calibration(profile, folder=folder)
    return hashlib.sha256(json.dumps(model.to_dict()).encode()).hexdigest()[:12] if model else None


def load_calibration(profile: HardwareProfile, *, folder: Path = CALIBRATION_FOLDER) -> LearnedRoofline | None:
    """The calibrated model of a target; None where it was never calibrated.

    Raises:
        ConfigError: the calibration cannot be read.
    """
    path = calibration_path(profile, folder=folder)
    return _read_calibration(path, path.stat().st_mtime_ns) if path.exists() else None


def calibration_path(profile: HardwareProfile, *, folder: Path = CALIBRATION_FOLDER) -> Path:
    """Path of the calibration of a target."""
    return folder / f"{profile.name}.json"


def save_calibration(
    model: LearnedRoofline, profile: HardwareProfile, facts: dict[str, Any], *, folder: Path = CALIBRATION_FOLDER
) -> Path:
    """Write a calibration atomically, and return its path.

    Args:
        model: the fitted model.
        profile: the target.
        facts: further fields for human readers.
        folder: created where it is missing.
    """
    path = calibration_path(profile, folder=folder)
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"format": CALIBRATION_FORMAT, "target": profile.name, **facts, "model": model.to_dict()}
    return write_atomic(path, json.dumps(fields, indent=1) + "\n")


@functools.lru_cache(maxsize=16)
def _read_calibration(path: Path, _modified_ns: int) -> LearnedRoofline:
    """Read a calibration. A search predicts thousands of nets; the time of modification is a key of the cache only."""
    try:
        fields = read_json(path)
        if fields["format"] != CALIBRATION_FORMAT:
            raise ConfigError(f"`format` must be {CALIBRATION_FORMAT}, but got {fields['format']!r:.60}")
        return LearnedRoofline.from_dict(fields["model"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} must be a calibration as `nas targets calibrate` writes it: {one_line(error)}; remove it or "
            "calibrate again"
        ) from None
