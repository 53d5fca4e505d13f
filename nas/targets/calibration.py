"""Calibrating a target: a few nets of the search spaces measured on it, and a model of all others learned from them.

The nets are untrained, because weights change no latency. A fifth of them is held out, to say how good the model is;
the model that is kept has learned from all. A model that predicts them worse than the target's profile does, or than
`WORST` where the profile predicts nothing, is not kept.

Each net that was measured is kept in a journal beside the calibration, so a call that was interrupted goes on where it
stopped.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.config import SearchConfig
from nas.errors import CandidateError, ConfigError, MeasureError, UnreachableError
from nas.latency.estimate import Latency, corrected_for_load
from nas.latency.predicted.executed_graph import executed_costs
from nas.latency.predicted.learned_roofline import LearnedRoofline, fit_learned_roofline
from nas.latency.predicted.predict import CALIBRATION_FOLDER, calibration_path, save_calibration
from nas.latency.predicted.roofline import predict_roofline
from nas.results.record import utc_timestamp
from nas.targets.calibration_journal import CalibrationEntry, CalibrationJournal
from nas.targets.calibration_sample import CalibrationCandidates, Shape
from nas.targets.calibration_timing import MeasureFiles, make_measure_files
from nas.targets.catalog import load_target

DEFAULT_N_MODELS = 40
MIN_MODELS = 10
HELD_OUT_FRACTION = 0.2
MAX_MEAN_ERROR = 0.3
"""Mean error on held-out nets at which a model of a target without a published one is of no use."""
BATCH_SIZE = 5
"""Nets written and measured at a time: one connection to a board, and the most that an interruption loses."""
DEFAULT_SPACES = ("plain", "darts")

Log = Callable[[str], None]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LatencyCalibration:
    """How a calibration went. The figures are of a model that had not seen the held-out nets; the model kept has.

    Attributes:
        target: what was calibrated.
        path: the file that later predictions go by, where the model is trusted.
        nets: measured nets, the held-out ones among them.
        held_out: how many of them the figures are of.
        spearman: rank correlation on the held-out nets.
        mean_error: mean of |prediction / measured - 1| on them.
        within_10: share of them predicted within 10 %.
        bar: the mean error that must not be exceeded: the profile's own on the same nets, or `WORST`.
        disturbed: share of the measurements that say the machine was busy.
        failed: why nets were left out, one line for each.
        model: the model, learned from all nets.
    """

    target: str
    path: Path
    n_models: int
    n_held_out: int
    spearman: float
    mean_error: float
    within_10: float
    max_mean_error: float
    disturbed_fraction: float
    failures: tuple[str, ...]
    model: LearnedRoofline

    @property
    def is_trusted(self) -> bool:
        """Whether the model predicts held-out nets well enough to be used; false too where nothing could be told."""
        return self.mean_error <= self.max_mean_error

    def summary_lines(self) -> list[str]:
        """What a person wants to know, line by line."""
        errors = f"mean error {self.mean_error:.1%}, within 10 % {self.within_10:.0%}"
        found = [
            f"{self.target}: learned from {self.n_models} nets",
            f"{self.n_held_out} nets held out: rank correlation {self.spearman:.3f}, {errors}",
        ]
        if self.is_trusted:
            found.append(f"predictions for {self.target} now go by {self.path}")
        else:
            found.append(
                f"not used: the mean error must be at most {self.max_mean_error:.1%}; measure more nets, or when idle"
            )
        if self.disturbed_fraction > 0:
            what = "they count as if it had been as quick as at its best; calibrate again when idle"
            found.append(f"{self.disturbed_fraction:.0%} of the nets were measured on a busy machine: {what}")
        return found + [f"left out: {reason}" for reason in self.failures]


def calibrate_target(
    target: str | HardwareProfile,
    *,
    n_models: int = DEFAULT_N_MODELS,
    spaces: Sequence[str] = DEFAULT_SPACES,
    measure_files: MeasureFiles | None = None,
    folder: Path = CALIBRATION_FOLDER,
    input_shape: Shape = (1, 48, 48),
    seed: int = 0,
    log: Log = lambda _: None,
) -> LatencyCalibration:
    """Measure nets on a target, learn its prices, write its calibration; go on where an interrupted call stopped.

    Args:
        target: a word of `nas targets`, or a profile.
        nets: how many to measure, 10 or more; 20 to 50 are sensible.
        spaces: where they are drawn from, in turn.
        measure: times files on the target; None takes the way that the target names: this machine, or a board.
        folder: where calibrations are kept.
        input_shape: (C, H, W) of the nets' input.
        seed: of the draw.
        say: told what is being done.

    Raises:
        ConfigError: fewer than 10 nets are asked for, or there is no way to measure on the target.
        MeasureError: there is no way to the device now, or fewer than 10 nets could be measured.
    """
    profile = load_target(target) if isinstance(target, str) else target
    if n_models < MIN_MODELS:
        raise ConfigError(
            f"a calibration needs {MIN_MODELS} nets or more, but got {n_models}; {DEFAULT_N_MODELS} is usual"
        )
    timed = measure_files or make_measure_files(profile, input_shape, log)
    sample = CalibrationCandidates(profile=profile, spaces=tuple(spaces), input_shape=input_shape)
    held = round(HELD_OUT_FRACTION * n_models)

    def choose() -> tuple[list[Candidate], list[Candidate]]:
        log(f"choosing {n_models} nets of {', '.join(spaces)}")
        return sample.select(held, n_models - held, seed, log)

    asked = {"target": asdict(profile), "compressors": SearchConfig.model_fields["compressors"].default}
    asked |= {"nets": n_models, "spaces": spaces, "input_shape": input_shape, "seed": seed}
    journal = CalibrationJournal.open_or_create(folder / f".{profile.name}.jsonl", asked, choose)
    _measure_missing(journal, sample, timed, log)
    result = _fit_and_save(journal, profile, spaces, folder, seed)
    journal.remove()
    return result


def _measure_missing(
    journal: CalibrationJournal, sample: CalibrationCandidates, measure_files: MeasureFiles, log: Log
) -> None:
    """Measure the nets that the journal lacks.

    Raises:
        MeasureError: there is no way to the device, or so many nets failed that too few are left.
    """
    total = len(journal.candidates)
    missing = [i for i in range(total) if i not in journal.entries]
    if journal.entries:
        log(f"{total - len(missing)} of {total} nets were measured before")
    begin = time.perf_counter()
    for at in range(0, len(missing), BATCH_SIZE):
        with tempfile.TemporaryDirectory(prefix="fer-nas-") as place:
            _measure_batch(journal, missing[at : at + BATCH_SIZE], sample, measure_files, Path(place))
        failed = [e.failure_reason for e in journal.entries.values() if e.failure_reason]
        if len(failed) > total - MIN_MODELS:  # too few are left, and each may cost a time-out
            journal.remove()
            raise MeasureError(
                f"a calibration needs {MIN_MODELS} measured nets, but {len(failed)} of {total} failed: {failed[-1]}"
            )
        done = min(at + BATCH_SIZE, len(missing))
        left_s = (time.perf_counter() - begin) / done * (len(missing) - done)
        log(f"{total - len(missing) + done} of {total} nets measured, about {left_s:.0f} s left")


def _measure_batch(
    journal: CalibrationJournal,
    indices: Sequence[int],
    sample: CalibrationCandidates,
    measure_files: MeasureFiles,
    folder: Path,
) -> None:
    written = {}
    for number in indices:
        candidate = journal.candidates[number]
        try:
            path, counted = sample.export(candidate, folder)
            written[number] = path, executed_costs(path, counted, sample.profile, input_shape=sample.input_shape)
        except CandidateError as error:
            journal.add(number, CalibrationEntry(failure_reason=f"{candidate.key}: {error}"))
    found = measure_files([path for path, _ in written.values()]) if written else []
    for (number, (_, counted)), timed in zip(written.items(), found, strict=True):
        if isinstance(timed, UnreachableError):  # says nothing of the net: it is tried again by the next call
            message = f"{timed}; the same command goes on where this one stopped"
            raise UnreachableError(message, log_lines=timed.log_lines)
        if isinstance(timed, MeasureError):
            journal.add(number, CalibrationEntry(failure_reason=f"{journal.candidates[number].key}: {timed}"))
        else:
            journal.add(number, CalibrationEntry(costs=counted, latency=timed))


def _fit_and_save(
    journal: CalibrationJournal, profile: HardwareProfile, spaces: Sequence[str], folder: Path, seed: int
) -> LatencyCalibration:
    """Learn from what was measured, and write it down where it is good enough."""
    found = {i: (e.costs, e.latency) for i, e in sorted(journal.entries.items()) if e.costs and e.latency}
    disturbed = float(np.mean([m.is_disturbed for _, m in found.values()]))
    latencies = {i: _latency_ms(m) for i, (_, m) in found.items()}
    tested = [i for i in found if i < len(journal.held_out)]
    rest = [i for i in found if i >= len(journal.held_out)]

    def learn_from(numbers: Sequence[int]) -> LearnedRoofline:
        return fit_learned_roofline([found[i][0] for i in numbers], [latencies[i] for i in numbers], profile, seed=seed)

    true = np.array([latencies[i] for i in tested])
    unseen = [found[i][0] for i in tested]
    figures = prediction_errors(learn_from(rest).predict_ms(unseen), true)
    published = [predict_roofline(each, profile).latency_ms for each in unseen if profile.latency]
    bar = prediction_errors(np.array(published), true)["mean_error"] if published else MAX_MEAN_ERROR
    model = learn_from([*rest, *tested])
    first = next(iter(found.values()))[1]
    facts = {
        "measured": utc_timestamp(),
        "device": first.device,
        "versions": first.versions,
        "spaces": list(spaces),
        "held_out": {"nets": len(tested), **figures},
        "disturbed": disturbed,
        "nets": [{"candidate": asdict(journal.candidates[i]), "latency_ms": latencies[i]} for i in found],
    }
    result = LatencyCalibration(
        target=profile.name,
        path=calibration_path(profile, folder=folder),
        n_models=len(found),
        n_held_out=len(tested),
        **figures,
        max_mean_error=bar,
        disturbed_fraction=disturbed,
        failures=tuple(e.failure_reason for e in journal.entries.values() if e.failure_reason),
        model=model,
    )
    if result.is_trusted:
        save_calibration(model, profile, facts, folder=folder)
    return result


def _latency_ms(measured: Latency) -> float:
    """What is learned: the median on a machine at its best.

    Of a busy board, whose best nobody knows, the 5th percentile, which other work lengthens least.
    """
    if measured.slowdown is None and measured.is_disturbed and measured.p5_ms is not None:
        return measured.p5_ms
    return corrected_for_load(measured).latency_ms


def prediction_errors(predicted: Floats, measured: Floats) -> dict[str, float]:
    """Spearman's rank correlation, mean relative error, and share within 10 %; NaN where there is nothing to tell."""
    if not len(measured):
        return dict.fromkeys(("spearman", "mean_error", "within_10"), float("nan"))
    errors = np.abs(predicted / measured - 1)
    a, b = (pd.Series(values).rank().to_numpy(dtype=np.float64) for values in (predicted, measured))
    spearman = float(np.corrcoef(a, b)[0, 1]) if a.std() * b.std() > 0 else float("nan")
    return {"spearman": spearman, "mean_error": float(errors.mean()), "within_10": float((errors <= 0.1).mean())}
