"""What a candidate costs in seconds, by one net: drafted, and trained for a few steps, before a search begins."""

import logging
import math
from dataclasses import asdict, dataclass

from nas.candidate import Candidate
from nas.errors import CandidateError, NasError
from nas.pipeline import Evaluator
from nas.results.phase_timer import Clock
from nas.results.throughput import forecasts, keep_forecast, pilot_words
from nas.searcher.crash_guard import attempt

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """Seconds of one candidate: `low_s` if it stops at the first rung, `high_s` if it goes through all of them."""

    low_s: float
    high_s: float


def look_ahead(evaluator: Evaluator, *, left_s: float | None) -> None:
    """Time one net that is known to be good, and keep how far the search will come by it. Once in a run, if at all.

    Args:
        evaluator: of the run; its space gives the net.
        left_s: seconds left for the search; None without a budget.
    """
    folder, space = evaluator.folder, evaluator.space
    nets = space.seeds(channel_multiple=evaluator.profile.channel_multiple)
    with folder.claim("pilot") as ours:
        if not nets or not ours or "pilot" in forecasts(folder) or any(r.phase == "search" for r in folder.records()):
            return
        evaluator.watch("a pilot: one net, drafted and trained for a few steps")
        fields = {"words": ""}
        with attempt(folder, "pilot") as made:
            try:
                if not made.deaths:
                    found = pilot(evaluator, evaluator.compression.decode(space, nets[0]))
                    words = pilot_words(found.low_s, found.high_s, trials=evaluator.config.trials, left_s=left_s)
                    fields = {**asdict(found), "words": words}
            except CandidateError as error:
                logger.info("no pilot: %s", error)
            except NasError:
                raise
            except Exception as error:  # it is one net of many; the search tells what is wrong with which
                logger.warning("no forecast, as the pilot failed: %s: %s", type(error).__name__, error)
            keep_forecast(folder, "pilot", fields)


def pilot(evaluator: Evaluator, candidate: Candidate) -> Pilot:
    """Time a candidate without training it: a few seconds for a net of usual size.

    Exporting and measuring the trained file is taken to cost what the untrained one does, and scoring a third of a
    training step for each batch, as a forward pass does.

    Raises:
        CandidateError: the net cannot be built, exported or measured.
    """
    clock, config = Clock(), evaluator.config
    evaluator.draft(candidate, clock)
    drafted_s = math.fsum(clock.seconds.values())
    epoch_s = evaluator.trainer.epoch_seconds(candidate, clock)
    share = len(evaluator.data.val) / max(1, len(evaluator.data.train))
    fixed_s = drafted_s + math.fsum(clock.seconds.values()) + epoch_s / 3 * share
    return Pilot(low_s=fixed_s + config.rungs[0] * config.epochs * epoch_s, high_s=fixed_s + config.epochs * epoch_s)
