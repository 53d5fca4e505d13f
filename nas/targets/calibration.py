"""Calibration of a target: networks of the search spaces are measured on it, and a latency model is fitted to them.

The networks are untrained, because weights do not change latency. 20 % of them are held out to estimate the model's
error; the model that is kept is fitted on all. It is discarded if it predicts the held-out networks worse than the
target's own profile does, or worse than `MAX_MEAN_ERROR` where the profile predicts nothing.

Each measurement is appended to a journal beside the calibration, so a call that was interrupted resumes.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.config import CompressionFields
from nas.errors import CandidateError, ConfigError, MeasureError, UnreachableError
from nas.latency.latency import Latency, corrected_for_load
from nas.latency.predicted.executed_graph import executed_costs
from nas.latency.predicted.learned_roofline import LearnedRoofline, fit_learned_roofline
from nas.latency.predicted.predict import CALIBRATION_FOLDER, calibration_path, save_calibration
from nas.latency.predicted.roofline import predict_roofline
from nas.results.record import utc_timestamp
from nas.targets.calibration_journal import CalibrationEntry, CalibrationJournal
from nas.targets.calibration_result import LatencyCalibration, prediction_errors
from nas.targets.calibration_sample import CalibrationCandidates, Shape
from nas.targets.calibration_timing import MeasureFiles, make_measure_files
from nas.targets.catalog import load_target

DEFAULT_N_MODELS = 40
MIN_MODELS = 10
"""Measured networks below which no model is fitted."""
HELD_OUT_FRACTION = 0.2
MAX_MEAN_ERROR = 0.3
"""Mean error on held-out networks above which a model is discarded, for a target whose profile predicts nothing."""
BATCH_SIZE = 5
"""Networks exported and measured at a time: one connection to a board, and the most that an interruption loses."""
DEFAULT_SPACES = ("plain", "darts")

Log = Callable[[str], None]


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
    """Measure networks on a target, fit its latency model, and write it; resume a call that was interrupted.

    Args:
        target: a word of `nas targets`, or a profile.
        n_models: networks to measure, at least 10; 20 to 50 are sensible.
        spaces: search spaces that they are drawn from, in turn.
        measure_files: times files on the target; None takes the target's own way: this machine, or a board.
        folder: of all calibrations.
        input_shape: (C, H, W) of the networks' input.
        seed: of the draw.
        log: receives progress.

    Returns:
        The calibration, whose model was written if it is trusted: if its mean error on the held-out networks is at most
        that of the target's profile, or `MAX_MEAN_ERROR` where the profile predicts nothing.

    Raises:
        ConfigError: fewer than 10 networks are requested, the spaces hold fewer, or the target cannot be measured.
        MeasureError: the device cannot be reached now, or fewer than 10 networks could be measured.
    """
    profile = load_target(target) if isinstance(target, str) else target
    if n_models < MIN_MODELS:
        raise ConfigError(
            f"a calibration needs {MIN_MODELS} networks or more, but got {n_models}; {DEFAULT_N_MODELS} is usual"
        )
    measure = measure_files or make_measure_files(profile, input_shape, log)
    sample = CalibrationCandidates(profile=profile, spaces=tuple(spaces), input_shape=input_shape)
    n_held_out = round(HELD_OUT_FRACTION * n_models)

    def choose_candidates() -> tuple[list[Candidate], list[Candidate]]:
        log(f"choosing {n_models} networks of {', '.join(spaces)}")
        return sample.select(n_held_out, n_models - n_held_out, seed, log)

    request: dict[str, Any] = {"target": asdict(profile), "compressors": CompressionFields().compressors}
    request |= {"nets": n_models, "spaces": spaces, "input_shape": input_shape, "seed": seed}
    journal = CalibrationJournal.open_or_create(folder / f".{profile.name}.jsonl", request, choose_candidates)
    _measure_missing(journal, sample, measure, log)
    result = _fit_and_save(journal, profile, spaces, folder, seed)
    journal.remove()
    return result


def _measure_missing(
    journal: CalibrationJournal, sample: CalibrationCandidates, measure_files: MeasureFiles, log: Log
) -> None:
    """Measure the networks that have no entry in the journal.

    Raises:
        MeasureError: the device cannot be reached, or so many networks failed that too few remain.
    """
    total = len(journal.candidates)
    missing = [i for i in range(total) if i not in journal.entries]
    if journal.entries:
        log(f"{total - len(missing)} of {total} networks were measured before")
    started = time.perf_counter()
    for first in range(0, len(missing), BATCH_SIZE):
        with tempfile.TemporaryDirectory(prefix="fer-nas-") as files:
            _measure_batch(journal, missing[first : first + BATCH_SIZE], sample, measure_files, Path(files))
        failed = [e.failure_reason for e in journal.entries.values() if e.failure_reason]
        if len(failed) > total - MIN_MODELS:  # at once, because each further failure may cost a time-out
            journal.remove()
            raise MeasureError(
                f"a calibration needs {MIN_MODELS} measured networks, but {len(failed)} of {total} failed: {failed[-1]}"
            )
        done = min(first + BATCH_SIZE, len(missing))
        left_s = (time.perf_counter() - started) / done * (len(missing) - done)
        log(f"{total - len(missing) + done} of {total} networks measured, about {left_s:.0f} s left")


def _measure_batch(
    journal: CalibrationJournal,
    indices: Sequence[int],
    sample: CalibrationCandidates,
    measure_files: MeasureFiles,
    folder: Path,
) -> None:
    """Export candidates, measure their files and add the outcomes to the journal."""
    files = {}
    for index in indices:
        candidate = journal.candidates[index]
        try:
            path, costs = sample.export(candidate, folder)
            files[index] = path, executed_costs(path, costs, sample.profile, input_shape=sample.input_shape)
        except CandidateError as error:
            journal.add(index, CalibrationEntry(failure_reason=f"{candidate.key}: {error}"))
    measured = measure_files([path for path, _ in files.values()]) if files else []
    for (index, (_, costs)), latency in zip(files.items(), measured, strict=True):
        if isinstance(latency, UnreachableError):  # not the network's fault: the next call tries it again
            raise UnreachableError(f"{latency}; repeat the command to resume", log_lines=latency.log_lines)
        if isinstance(latency, MeasureError):
            journal.add(index, CalibrationEntry(failure_reason=f"{journal.candidates[index].key}: {latency}"))
        else:
            journal.add(index, CalibrationEntry(costs=costs, latency=latency))


def _fit_and_save(
    journal: CalibrationJournal, profile: HardwareProfile, spaces: Sequence[str], folder: Path, seed: int
) -> LatencyCalibration:
    """Fit the model to the journal's measurements, and write it where it is trusted."""
    measured = {i: (e.costs, e.latency) for i, e in sorted(journal.entries.items()) if e.costs and e.latency}
    disturbed = float(np.mean([latency.is_disturbed for _, latency in measured.values()]))
    latencies_ms = {i: _latency_ms(latency) for i, (_, latency) in measured.items()}
    held_out = [i for i in measured if i < len(journal.held_out)]
    training = [i for i in measured if i >= len(journal.held_out)]

    def fit(indices: Sequence[int]) -> LearnedRoofline:
        costs = [measured[i][0] for i in indices]
        return fit_learned_roofline(costs, [latencies_ms[i] for i in indices], profile, seed=seed)

    held_out_ms = np.array([latencies_ms[i] for i in held_out])
    held_out_costs = [measured[i][0] for i in held_out]
    errors = prediction_errors(fit(training).predict_ms(held_out_costs), held_out_ms)
    published_ms = [predict_roofline(costs, profile).latency_ms for costs in held_out_costs if profile.latency]
    max_mean_error = (
        prediction_errors(np.array(published_ms), held_out_ms)["mean_error"] if published_ms else MAX_MEAN_ERROR
    )
    model = fit([*training, *held_out])
    first = next(iter(measured.values()))[1]
    facts = {
        "measured": utc_timestamp(),
        "device": first.device,
        "versions": first.versions,
        "spaces": list(spaces),
        "held_out": {"nets": len(held_out), **errors},
        "disturbed": disturbed,
        "nets": [{"candidate": asdict(journal.candidates[i]), "latency_ms": latencies_ms[i]} for i in measured],
    }
    result = LatencyCalibration(
        target=profile.name,
        path=calibration_path(profile, folder=folder),
        n_models=len(measured),
        n_held_out=len(held_out),
        **errors,
        max_mean_error=max_mean_error,
        disturbed_fraction=disturbed,
        failures=tuple(e.failure_reason for e in journal.entries.values() if e.failure_reason),
        model=model,
    )
    if result.is_trusted:
        save_calibration(model, profile, facts, folder=folder)
    return result


def _latency_ms(measured: Latency) -> float:
    """The latency to fit, in ms: the median, corrected to an idle machine.

    A busy board has no known slowdown to correct for. There the 5th percentile, which other load lengthens least.
    """
    if measured.slowdown is None and measured.is_disturbed and measured.p5_ms is not None:
        return measured.p5_ms
    return corrected_for_load(measured).latency_ms
