"""The latency of a file on a device that is not at hand: by the device's calibration, or else by its profile.

A calibration (`nas targets calibrate`) is one file for each target, `nas.calibration/<target>.json` in the working
directory, beside nas.toml: it belongs to the boards that nas.toml names. It appears whole, and can be sent to somebody.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from hw_profiles._base import HardwareProfile
from nas.errors import ConfigError
from nas.files import write_atomic
from nas.latency.costs import Costs
from nas.latency.estimate import Latency
from nas.latency.predicted import learned_roofline as learned
from nas.latency.predicted import roofline
from nas.latency.predicted.learned_roofline import LearnedRoofline

CALIBRATION_FOLDER = Path("nas.calibration")
CALIBRATION_FORMAT = 1
CURRENT_PREDICTORS = frozenset({roofline.VERSION, learned.VERSION})
"""What this version of the package predicts by; what another one has predicted is not comparable."""


def predict_latency(costs: Costs, profile: HardwareProfile, *, folder: Path = CALIBRATION_FOLDER) -> Latency:
    """Predicted latency with its interval and what it rests on.

    Raises:
        ConfigError: there is neither a calibration nor a latency model, or the calibration cannot be read.
    """
    model = load_calibration(profile, folder=folder)
    return roofline.predict_roofline(costs, profile) if model is None else model.predict(costs)


def predict_layers_ms(
    costs: Costs, profile: HardwareProfile, *, folder: Path = CALIBRATION_FOLDER
) -> tuple[tuple[str, float], ...]:
    """Name and predicted milliseconds of each kernel, in order.

    Raises:
        ConfigError: as `predict`.
    """
    model = load_calibration(profile, folder=folder)
    if model is None:
        return tuple((kernel.name, roofline.predict_kernel_us(kernel, profile) / 1e3) for kernel in costs.kernels)
    return tuple((name, us / 1e3) for name, us in model.layers_us(costs)[:-1])


def calibration_fingerprint(profile: HardwareProfile, *, folder: Path = CALIBRATION_FOLDER) -> str | None:
    """Which calibration a target's predictions go by, in a few letters; None where it has none."""
    model = load_calibration(profile, folder=folder)
    return hashlib.sha256(json.dumps(model.to_dict()).encode()).hexdigest()[:12] if model else None


def load_calibration(profile: HardwareProfile, *, folder: Path = CALIBRATION_FOLDER) -> LearnedRoofline | None:
    """The model that was learned for a target, or None where it was never calibrated.

    Raises:
        ConfigError: the calibration cannot be read.
    """
    path = calibration_path(profile, folder=folder)
    return _read_calibration(path, path.stat().st_mtime_ns) if path.exists() else None


def calibration_path(profile: HardwareProfile, *, folder: Path = CALIBRATION_FOLDER) -> Path:
    """Where the calibration of a target is."""
    return folder / f"{profile.name}.json"


def save_calibration(
    model: LearnedRoofline, profile: HardwareProfile, facts: dict[str, Any], *, folder: Path = CALIBRATION_FOLDER
) -> Path:
    """Write a calibration, whole or not at all; `facts` stand beside the model for people to read."""
    path = calibration_path(profile, folder=folder)
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"format": CALIBRATION_FORMAT, "target": profile.name, **facts, "model": model.to_dict()}
    return write_atomic(path, json.dumps(fields, indent=1) + "\n")


@functools.lru_cache(maxsize=16)
def _read_calibration(path: Path, _modified_ns: int) -> LearnedRoofline:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["format"] != CALIBRATION_FORMAT:
            raise ConfigError(f"its format must be {CALIBRATION_FORMAT}, but got {fields['format']}")
        return LearnedRoofline.from_dict(fields["model"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} must be a calibration as `nas targets calibrate` writes it: {error}; remove it or calibrate again"
        ) from error
