"""Post-training quantisation of one model: seconds, without any training.

Each unit is in the target's narrowest precision where that is measured to make the file faster, unless a bit-width was
asked for (`nas.post_training.mixed_precision`). The file is scored by ONNX Runtime and timed beside the given model.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from nas.compression.quantization.calibration import CALIBRATION_METHODS, DEFAULT_CALIBRATION, RECOMMENDED_CALIBRATION
from nas.compression.quantization.node_bits import bit_options
from nas.errors import CandidateError, ConfigError
from nas.latency.costs import compute_costs
from nas.latency.latency import Latency
from nas.metrics import Score
from nas.post_training.base import (
    FileFigures,
    LogFunction,
    PostTrainingModel,
    PostTrainingResult,
    score_file,
    split_name,
)
from nas.post_training.bits import BitsPlan, BitsRequest, resolve_pins
from nas.post_training.file_timer import FileTimer
from nas.post_training.mixed_precision import PrecisionChoice, choose_precision
from nas.runtimes.onnx_input import read_onnx_input


def quantize_model(
    model: PostTrainingModel,
    *,
    request: BitsRequest,
    out: Path,
    timer: FileTimer,
    calibration: str = RECOMMENDED_CALIBRATION,
    log: LogFunction = lambda _: None,
) -> PostTrainingResult:
    """Write a quantised file of a model, and compare it with the model as given.

    Args:
        model: the model.
        request: bit-widths asked for.
        out: the file to write.
        timer: times files for the model's target.
        calibration: method of the activations' ranges.
        log: called with a line about each step.

    Raises:
        ConfigError: the calibration method or a name is unknown, or `out` is the given file.
        CandidateError: a file cannot be written, scored or timed.
    """
    check_calibration(calibration)
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        given = model.given_file(Path(folder))
        if out.exists() and out.resolve() == given.resolve():
            raise ConfigError(f"--out must be another file than the model, but is {out}")
        choice = _choose(model, request, timer, Path(folder), log)
        log(f"calibrate and write {out}")
        model.write(out, choice.plan, calibration=calibration)
        notes = describe_choice(model, choice)
        if request.base is None and model.bit_options != bit_options(model.profile):
            notes += (f"no unit is in 16 bits by itself: {model.float16_fault}",)
        return compare_files(model, given, out, plan=choice.plan, timer=timer, log=log, notes=notes)


def compare_files(
    model: PostTrainingModel,
    given: Path,
    out: Path,
    *,
    plan: BitsPlan,
    timer: FileTimer,
    log: LogFunction,
    detail: str = "",
    notes: Sequence[str] = (),
) -> PostTrainingResult:
    """Score both files and time them side by side.

    Args:
        model: opens the files.
        given: the model as given.
        out: the new file.
        plan: its bit-widths.
        timer: times them.
        log: called with a line about each step.
        detail: what was done besides, in words.
        notes: facts that a reader of the figures needs.
    """
    log("score both files on the selection split")
    (score, predicted), (other_score, other_predicted) = score_file(model, given), score_file(model, out)
    log("time both files side by side")
    before, after = timer.time([given, out], model.timed_shape)
    return PostTrainingResult(
        model=model.name, path=out,
        before=_figures("given", "32 bits", given, score, before),
        after=_figures("new", f"{detail}{plan.describe()}", out, other_score, after),
        agreement=float((predicted == other_predicted).mean()), split_name=split_name(model.data),
        bits={**plan.units, **plan.layers},
        notes=(*model.notes, *notes, *dict.fromkeys(note for note in after.notes if "busy" in note)),
    )  # fmt: skip


def check_calibration(method: str) -> None:
    """Refuse an unknown calibration method.

    Raises:
        ConfigError: the message lists the methods.
    """
    if method not in CALIBRATION_METHODS:
        raise ConfigError(f"--calibration must be one of {', '.join(CALIBRATION_METHODS)}, but got {method!r}")


def describe_choice(model: PostTrainingModel, choice: PrecisionChoice) -> tuple[str, ...]:
    """Why each unit has its bit-width, where that was measured; a sentence each."""
    narrow, notes = min(model.bit_options), list[str]()
    for unit, gain in choice.gains.items():
        width = choice.plan.units[unit]
        times = f"{gain.speedup:.2f} times as fast, {gain.kind}"
        notes.append(
            f"{unit}: {width} bits, which makes the file {times}" if width == narrow
            else f"{unit}: {width} bits, as {narrow} would make the file {times}"
        )  # fmt: skip
    if choice.was_disturbed:
        wide = max(model.bit_options)
        notes.append(
            f"the machine is too busy to judge units one by one, so stem and head stay in {wide} bits, as is usual; "
            "repeat this on a calm machine, or give --bits"
        )
    if choice.whole is not None and narrow not in choice.plan.widths:
        whole = choice.whole
        notes.append(
            f"{narrow} bits gain nothing on this target ({whole.speedup:.2f} [{whole.low:.2f}, {whole.high:.2f}] times "
            f"as fast), so the file stays as wide as it was; --bits {narrow} makes it small all the same"
        )
    return tuple(notes)


def _choose(
    model: PostTrainingModel, request: BitsRequest, timer: FileTimer, folder: Path, log: LogFunction
) -> PrecisionChoice:
    """The plan that was asked for, or the one whose narrow units are measured to pay."""
    units, layers = resolve_pins(request, units=model.units, layers=model.layers)
    if request.base is not None:
        return PrecisionChoice(plan=BitsPlan(units=dict.fromkeys(model.units, request.base) | units, layers=layers))
    options = model.bit_options

    def time_plans(plans: Sequence[BitsPlan]) -> list[Latency]:
        log(f"time {len(plans)} forms of {model.name} side by side")
        paths = [folder / f"{i}.onnx" for i in range(len(plans))]
        for path, plan in zip(paths, plans, strict=True):
            model.write(path, plan, calibration=DEFAULT_CALIBRATION, is_draft=True)
        return timer.time_drafts(paths, model.timed_shape)

    return choose_precision(
        model.units, narrow=min(options), wide=max(options), time_plans=time_plans, pinned_units=units,
        pinned_layers=layers,
    )  # fmt: skip


def _figures(name: str, detail: str, path: Path, score: Score, latency: Latency) -> FileFigures:
    params: int | None = None
    macs: int | None = None
    try:
        costs = compute_costs(path)
        params, macs = costs.params, costs.macs
    except CandidateError:  # shapes of a foreign graph may be unknown; the two columns are then left out
        pass
    size = path.stat().st_size + sum(
        (path.parent / each).stat().st_size for each in read_onnx_input(path).external_files
    )
    return FileFigures(
        name=name, detail=detail, score=score, latency=latency, size_bytes=size, params=params, macs=macs
    )
