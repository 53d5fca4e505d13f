"""What a candidate costs in seconds, by one net: drafted, and trained for a few steps, before a search begins."""

import logging
import math
from dataclasses import asdict, dataclass

from nas.candidate import Candidate
from nas.errors import CandidateError, NasError
from nas.pipeline import Evaluator
from nas.results.phase_timer import PhaseTimer
from nas.results.throughput import format_probe_forecast, read_forecasts, write_forecast_once
from nas.searcher.crash_guard import crash_guard

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CostProbe:
    """Seconds of one candidate: `low_s` if it stops at the first rung, `high_s` if it goes through all of them."""

    low_s: float
    high_s: float


def probe_candidate_cost(evaluator: Evaluator, *, remaining_s: float | None) -> None:
    """Time one net that is known to be good, and keep how far the search will come by it. Once in a run, if at all.

    Args:
        evaluator: of the run; its space gives the net.
        remaining_s: seconds left for the search; None without a budget.
    """
    folder, space = evaluator.folder, evaluator.space
    nets = space.initial_configurations(channel_multiple=evaluator.profile.channel_multiple)
    with folder.lock("pilot") as ours:
        if (
            not nets
            or not ours
            or "pilot" in read_forecasts(folder)
            or any(r.phase == "search" for r in folder.records())
        ):
            return
        evaluator.log("a pilot: one net, drafted and trained for a few steps")
        fields = {"words": ""}
        with crash_guard(folder, "pilot") as made:
            try:
                if not made.crashes:
                    found = time_candidate(evaluator, evaluator.compression.decode(space, nets[0]))
                    words = format_probe_forecast(
                        found.low_s, found.high_s, trials=evaluator.config.search.trials, remaining_s=remaining_s
                    )
                    fields = {**asdict(found), "words": words}
            except CandidateError as error:
                logger.info("no pilot: %s", error)
            except NasError:
                raise
            except Exception as error:  # it is one net of many; the search tells what is wrong with which
                logger.warning("no forecast, as the pilot failed: %s: %s", type(error).__name__, error)
            write_forecast_once(folder, "pilot", fields)


def time_candidate(evaluator: Evaluator, candidate: Candidate) -> CostProbe:
    """Time a candidate without training it: a few seconds for a net of usual size.

    Exporting and measuring the trained file is taken to cost what the untrained one does, and scoring a third of a
    training step for each batch, as a forward pass does.

    Raises:
        CandidateError: the net cannot be built, exported or measured.
    """
    clock, config = PhaseTimer(), evaluator.config
    evaluator.evaluate_untrained(candidate, clock)
    drafted_s = math.fsum(clock.seconds.values())
    epoch_s = evaluator.trainer.estimate_epoch_seconds(candidate, clock)
    share = len(evaluator.data.val) / max(1, len(evaluator.data.train))
    fixed_s = drafted_s + math.fsum(clock.seconds.values()) + epoch_s / 3 * share
    return CostProbe(
        low_s=fixed_s + config.training.rungs[0] * config.training.epochs * epoch_s,
        high_s=fixed_s + config.training.epochs * epoch_s,
    )
