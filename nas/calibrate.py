"""Calibrating a target: a few nets of the search space measured on it, and a model of all others learned from them.

The nets are untrained, because weights change no latency. A fifth of them is drawn as a search draws and held out, to
say how good the model is; the others are those of a larger draw that lie farthest from each other (Gonzalez,
Theoretical Computer Science 38, 1985), because corners teach more than the crowd in the middle.
"""

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.candidate import Candidate
from nas.costs import Costs
from nas.errors import CandidateError, ConfigError, MeasureError
from nas.latency._columns import columns_for
from nas.latency.learned import LearnedRoofline, learn
from nas.latency.prediction import FOLDER, save_calibration
from nas.measure import Measurement
from nas.measure import measure as measure_here
from nas.targets import target as profile_of
from nas.untrained import draw, write_untrained

NETS = 30
LEAST_NETS = 10
HELD_OUT = 0.2
POOL = 3  # nets drawn for each that is measured
INPUT_SHAPE = (1, 48, 48)

Measure = Callable[[Path], Measurement]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """How a calibration went. The figures are of a model that had not seen the held-out nets; the model kept has.

    Attributes:
        target: what was calibrated.
        path: the file that later predictions go by.
        nets: measured nets, the held-out ones among them.
        held_out: how many of them the figures are of.
        spearman: rank correlation on the held-out nets.
        mean_error: mean of |prediction / measured - 1| on them.
        within_10: share of them predicted within 10 %.
        disturbed: share of the measurements that say the machine was busy.
        failed: why nets were left out, one line for each.
        seconds: it took.
        model: the model, learned from all nets.
    """

    target: str
    path: Path
    nets: int
    held_out: int
    spearman: float
    mean_error: float
    within_10: float
    disturbed: float
    failed: tuple[str, ...]
    seconds: float
    model: LearnedRoofline

    def lines(self) -> list[str]:
        """What a person wants to know, line by line."""
        errors = f"mean error {self.mean_error:.1%}, within 10 % {self.within_10:.0%}"
        found = [
            f"{self.target}: learned from {self.nets} nets in {self.seconds:.0f} s",
            f"{self.held_out} nets held out: rank correlation {self.spearman:.3f}, {errors}",
            f"predictions for {self.target} now go by {self.path}",
        ]
        if self.disturbed > 0:
            found.append(f"{self.disturbed:.0%} of the nets were measured on a busy machine: calibrate again when idle")
        return found + [f"left out: {reason}" for reason in self.failed]


def calibrate(
    target: str | HardwareProfile,
    *,
    nets: int = NETS,
    space: str = "darts",
    measure: Measure | None = None,
    folder: Path = FOLDER,
    input_shape: tuple[int, int, int] = INPUT_SHAPE,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationResult:
    """Measure nets on a target, learn its prices, write its calibration.

    Args:
        target: a word of `nas targets`, or a profile.
        nets: how many to measure, 10 or more; 20 to 50 are sensible.
        space: where they are drawn from.
        measure: times one file on the target; None times it here, for targets that are this machine.
        folder: where calibrations are kept.
        input_shape: (C, H, W) of the nets' input.
        seed: of the draw.
        progress: told how many of how many nets are measured.

    Raises:
        ConfigError: fewer than 10 nets are asked for, or the target can neither be measured here nor by `measure`.
        MeasureError: fewer than 10 nets could be measured; the message has the last reason.
    """
    begin = time.perf_counter()
    profile = profile_of(target) if isinstance(target, str) else target
    if nets < LEAST_NETS:
        raise ConfigError(f"a calibration needs {LEAST_NETS} nets or more, but got {nets}; 30 is usual")
    timed = measure or _local(profile, input_shape)
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as place:
        drawn = _draw(profile, space, POOL * nets, Path(place), input_shape, seed)
        count = round(HELD_OUT * nets)
        held = list(range(count))  # drawn evenly, as all are
        spread = [count + i for i in farthest(_features(drawn[count:], profile), nets - count)]
        found, failed = _measured([drawn[i] for i in held + spread], timed, progress)
    if len(found) < LEAST_NETS:
        raise MeasureError(
            f"a calibration needs {LEAST_NETS} measured nets, but {len(failed)} of {nets} failed: {failed[-1]}"
        )
    aside = {drawn[i].candidate.key for i in held}
    tested = [net for net in found if net.candidate.key in aside]
    rest = [net for net in found if net.candidate.key not in aside]
    figures = _figures(_learn(rest, profile, seed), tested)
    model = _learn(found, profile, seed)
    disturbed = float(np.mean([any("busy" in n for n in net.measurement.notes) for net in found]))
    facts = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": found[0].measurement.device,
        "versions": found[0].measurement.versions,
        "space": space,
        "held_out": {"nets": len(tested), **figures},
        "disturbed": disturbed,
        "nets": [{"candidate": asdict(net.candidate), "latency_ms": net.measurement.latency_ms} for net in found],
    }
    return CalibrationResult(
        target=profile.name,
        path=save_calibration(model, profile, facts, folder=folder),
        nets=len(found),
        held_out=len(tested),
        **figures,
        disturbed=disturbed,
        failed=tuple(failed),
        seconds=time.perf_counter() - begin,
        model=model,
    )


def farthest(points: Floats, count: int) -> list[int]:
    """Rows of `points` [n, d] that lie far from each other: the one farthest from the mean, then always the farthest.

    Returns:
        `count` different rows, or all where there are fewer.
    """
    chosen = [int(np.argmax(((points - points.mean(axis=0)) ** 2).sum(axis=1)))]
    gap = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(points)):
        gap[chosen] = -1.0
        chosen.append(int(np.argmax(gap)))
        gap = np.minimum(gap, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return chosen


@dataclass(frozen=True)
class _Drawn:
    candidate: Candidate
    path: Path
    costs: Costs


@dataclass(frozen=True)
class _Net:
    candidate: Candidate
    costs: Costs
    measurement: Measurement


def _local(profile: HardwareProfile, input_shape: tuple[int, int, int]) -> Measure:
    if not profile.local:
        raise ConfigError(
            f"{profile.name!r} must be this machine or come with a way to measure on it; "
            "name your board: nas targets add NAME --like DEVICE --ssh user@host"
        )
    runtime = registry.load("runtime", profile.runtime)
    return lambda path: measure_here(path, runtime, device=profile.title, input_shape=input_shape)


def _draw(
    profile: HardwareProfile,
    space: str,
    count: int,
    place: Path,
    input_shape: tuple[int, int, int],
    seed: int,
) -> list[_Drawn]:
    """So many different candidates as files."""
    generator = random.Random(seed)  # noqa: S311
    member = registry.load("space", space)
    compressors = [registry.load("compressor", name) for name in registry.names("compressor")]
    found: dict[str, _Drawn] = {}
    while len(found) < count:
        candidate = draw(member, compressors, profile, generator)
        if candidate.key in found:
            continue
        path = place / f"{candidate.key}.onnx"
        try:
            counted = write_untrained(
                candidate, path, space=member, compressors=compressors, profile=profile, input_shape=input_shape
            )
        except CandidateError:  # the search leaves such nets out as well
            continue
        found[candidate.key] = _Drawn(candidate, path, counted)
    return list(found.values())


def _features(drawn: Sequence[_Drawn], profile: HardwareProfile) -> Floats:
    """[n, d] Logarithms of the columns in use, each of unit spread."""
    columns = columns_for(profile).matrix([net.costs.kernels for net in drawn])
    logs = np.log1p(columns / np.maximum(columns.mean(axis=0), 1e-12))
    found: Floats = logs / np.maximum(logs.std(axis=0), 1e-12)
    return found


def _measured(
    drawn: Sequence[_Drawn], measure: Measure, progress: Callable[[int, int], None] | None
) -> tuple[list[_Net], list[str]]:
    found: list[_Net] = []
    failed: list[str] = []
    for done, net in enumerate(drawn):
        if len(failed) > len(drawn) - LEAST_NETS:  # too few are left, and each may cost a time-out
            break
        try:
            found.append(_Net(net.candidate, net.costs, measure(net.path)))
        except CandidateError as error:
            failed.append(f"{net.candidate.key}: {error}")
        if progress:
            progress(done + 1, len(drawn))
    return found, failed


def _learn(nets: Sequence[_Net], profile: HardwareProfile, seed: int) -> LearnedRoofline:
    return learn([n.costs for n in nets], [n.measurement.latency_ms for n in nets], profile, seed=seed)


def _figures(model: LearnedRoofline, tested: Sequence[_Net]) -> dict[str, Any]:
    if not tested:
        return {"spearman": float("nan"), "mean_error": float("nan"), "within_10": float("nan")}
    true = np.array([net.measurement.latency_ms for net in tested])
    predicted = model.predict_ms([net.costs for net in tested])
    errors = np.abs(predicted / true - 1)
    a, b = (pd.Series(values).rank().to_numpy(dtype=np.float64) for values in (predicted, true))
    spearman = float(np.corrcoef(a, b)[0, 1]) if len(true) > 1 else float("nan")
    return {"spearman": spearman, "mean_error": float(errors.mean()), "within_10": float((errors <= 0.1).mean())}
