"""Functions behind `nas targets`: check, calibrate and list the devices that can be measured."""

from collections.abc import Callable, Sequence

from nas.api.measurement import measure_all
from nas.errors import ConfigError, MeasureError
from nas.latency.predicted.learned_roofline import LearnedRoofline
from nas.latency.predicted.predict import load_calibration
from nas.runtimes.base import Finding
from nas.runtimes.disturbance import DRIFT_LIMIT
from nas.runtimes.reference_network import reference_path
from nas.targets.calibration import DEFAULT_N_MODELS, DEFAULT_SPACES, calibrate_target
from nas.targets.calibration_result import LatencyCalibration
from nas.targets.catalog import device_runtime, load_target, load_targets


def check_target(name: str) -> list[Finding]:
    """Check whether a target can be measured, down to the latency of the reference network on it.

    Returns:
        The findings, in the order of the checks; the last one is the reference network's latency.

    Raises:
        ConfigError: the target is neither a board over ssh nor this machine.
        MeasureError: there is no connection to it.
    """
    profile = load_target(name)
    device = device_runtime(profile)
    if device is None and not profile.local:
        raise ConfigError(
            f"only a measured target can be checked, but {name!r} is predicted; for a board see "
            "`nas targets add --help`"
        )
    findings = device.probe_device(profile) if device else []
    (result,) = measure_all([reference_path()], target=name)
    if isinstance(result, MeasureError):
        return [*findings, Finding(name="reference network", value=str(result), is_ok=False)]
    latency = result[0]
    is_steady = max(abs(latency.drift or 0.0), latency.slowdown or 0.0) <= DRIFT_LIMIT
    value = (
        f"{latency.latency_ms:.4f} ms [{latency.low_ms:.4f}, {latency.high_ms:.4f}], drift {latency.drift or 0:+.1%}"
    )
    value += f", {latency.slowdown:.0%} slower than at its best" if latency.slowdown is not None else ""
    return [*findings, Finding(name="reference network", value=value, is_ok=is_steady)]


def calibrate(
    target: str,
    *,
    nets: int = DEFAULT_N_MODELS,
    spaces: Sequence[str] = DEFAULT_SPACES,
    input_shape: tuple[int, int, int] = (1, 48, 48),
    seed: int = 0,
    log: Callable[[str], None] = lambda _: None,
) -> LatencyCalibration:
    """Measure random networks on a target and fit a latency model to them, which later predictions for it use.

    The same call resumes an interrupted calibration.

    Args:
        target: a target of `nas targets`: this machine, or a board over ssh.
        nets: number of networks to measure, 10 or more; 20 % of them are held out to validate the model.
        spaces: search spaces that the networks are drawn from.
        input_shape: (C, H, W) of their input.
        seed: random seed of the draw.
        log: called with a line about each step.

    Raises:
        ConfigError: `nets` is below 10, or the target cannot be measured.
        UnknownMemberError: there is no such target or space.
        MeasureError: there is no connection to the device now, or fewer than 10 networks could be measured.
    """
    return calibrate_target(target, n_models=nets, spaces=spaces, input_shape=input_shape, seed=seed, log=log)


def calibrations() -> dict[str, LearnedRoofline]:
    """Latency models of the calibrated targets, by target."""
    models = {name: load_calibration(profile) for name, profile in load_targets().items()}
    return {name: model for name, model in models.items() if model}
