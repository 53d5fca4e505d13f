"""Cost probe: the seconds that one candidate takes, estimated from a few training steps before a search begins."""

import logging
import math
from dataclasses import asdict, dataclass

from nas.candidate import Candidate
from nas.config import TrainingFields
from nas.errors import CandidateError, NasError
from nas.evaluation.evaluator import Evaluator
from nas.pipeline import Step
from nas.results.phase_timer import PhaseTimer
from nas.results.throughput import format_probe_forecast, read_forecasts, write_forecast_once
from nas.searcher.workforce import Steps
from nas.training.trainer import ShouldStop

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CostProbe:
    """Seconds of one candidate: `low_s` if it stops at the first rung, `high_s` if it passes all rungs."""

    low_s: float
    high_s: float


def probe_candidate_cost(
    evaluator: Evaluator, *, trials: int | None, training: TrainingFields, remaining_s: float | None
) -> Steps:
    """Time one known good network and write down the forecast that follows. Done at most once in a run.

    Nothing is timed where

    - the run has a forecast or a search record already, or
    - the space names no known good network.

    A network that cannot be evaluated leaves an empty forecast and never stops the search.

    Args:
        evaluator: of the run; the network is the first initial configuration of its space.
        trials: limit of candidates; None without one.
        training: rungs and epochs.
        remaining_s: seconds that remain for the search; None without a time limit.
    """
    folder, space = evaluator.folder, evaluator.space
    configurations = space.initial_configurations(channel_multiple=evaluator.profile.channel_multiple)
    has_begun = "pilot" in read_forecasts(folder) or any(r.phase == "search" for r in folder.records())
    if not configurations or has_begun:
        return
    evaluator.log("cost probe: one network, exported untrained and trained for a few steps")
    fields = {"words": ""}
    try:
        candidate = evaluator.compression.decode(space, configurations[0])
        arguments = {"candidate": candidate, "training": training}
        files = (f"checkpoints/{candidate.key}-*",)
        probe = yield Step(name="cost probe", function=time_candidate, arguments=arguments, files=files)
        words = format_probe_forecast(probe.low_s, probe.high_s, trials=trials, remaining_s=remaining_s)
        fields = {**asdict(probe), "words": words}
    except CandidateError as error:
        logger.info("no cost probe: %s", error)
    except (NasError, OSError, MemoryError):
        raise
    except Exception as error:  # one network of many; the search itself reports what fails
        logger.warning("no forecast, because the cost probe failed: %s: %s", type(error).__name__, error)
    write_forecast_once(folder, "pilot", fields)


def time_candidate(
    evaluator: Evaluator, candidate: Candidate, training: TrainingFields, *, stop: ShouldStop | None = None
) -> CostProbe:
    """Estimate the seconds of a candidate without training it; takes a few seconds for a network of usual size.

    Two assumptions stand in for what is not run:

    - exporting and measuring the trained file takes as long as for the untrained one;
    - scoring takes a third of a training step per batch, as a forward pass does beside forward and backward.

    Args:
        evaluator: of the run.
        candidate: what to time.
        training: rungs and epochs.
        stop: ignored; it takes a few steps.

    Raises:
        CandidateError: the network cannot be built, exported or measured.
    """
    timer = PhaseTimer()
    evaluator.evaluate_untrained(candidate, timer)
    untrained_s = math.fsum(timer.seconds.values())
    epoch_s = evaluator.trainer.estimate_epoch_seconds(candidate, timer)
    validation_share = len(evaluator.data.val) / max(1, len(evaluator.data.train))
    # The timer's sum now holds the untrained phases and the probe's own steps; it stands for the trained file's phases.
    fixed_s = untrained_s + math.fsum(timer.seconds.values()) + epoch_s / 3 * validation_share
    return CostProbe(
        low_s=fixed_s + training.rungs[0] * training.epochs * epoch_s,
        high_s=fixed_s + training.epochs * epoch_s,
    )
