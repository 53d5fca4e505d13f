"""The front in full: each member is trained on, exported, scored and measured again, once or with several seeds.

Seed 0 goes on from what the search has trained, and its file is the one that ships: the best of several by validation
accuracy would be chosen by the very figure shown, and look better than it is. Further seeds begin anew, with their own
initialisation and order of faces, for as many epochs as seed 0 had in all; they say how much of a member's place is
luck. All members have their seed 0 before any has its seed 1.

What was finished is never done again. One that failed is tried once more with half of the epochs, which also lowers the
learning rate of what goes on from trained weights; one that ends the process is given up, see `nas.searcher.crash_guard`.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nas.pipeline import Evaluator
from nas.results.record import Record
from nas.results.seed_variance import MIN_EPOCH_SHARE
from nas.searcher.crash_guard import ABANDONED_REASON, CrashGuard, crash_guard
from nas.training.trainer import ShouldStop

logger = logging.getLogger(__name__)

RETRY_EPOCH_SHARE = 0.5
"""Share of the epochs in the second try of a member whose first one failed."""
MAX_TRIES = 2


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """Trains members of the front in full, and appends their records.

    Attributes:
        evaluator: does the work, and knows the configuration and the run folder.
        members: complete records of the search, the most telling first.
        stop: asked before each training step; None without a budget.
        left_s: seconds left of the budget; None without one.
        refresh: called after each piece of work.
    """

    evaluator: Evaluator
    members: Sequence[Record]
    stop: ShouldStop | None
    remaining_s: Callable[[], float | None]
    on_progress: Callable[[], None]

    @property
    def n_seeds(self) -> int:
        """Trainings of each member."""
        return self.evaluator.config.training.verify_seeds

    def run(self) -> None:
        """Do all that is not done yet, as far as the budget goes. Several processes share the work."""
        for seed in range(self.n_seeds):
            for position, member in enumerate(self.members):
                name = f"verify-{member.key}" + (f"-{seed}" if seed else "")
                with self.evaluator.folder.lock(name) as ours:
                    if ours:
                        self._train_member(member, position, seed, name)
                self.on_progress()

    def _train_member(self, member: Record, position: int, seed: int, name: str) -> None:
        evaluator = replace(self.evaluator, seed_index=seed)
        while self._needs_training(tried := self._records(member, seed)):
            epochs = self._further_seed_epochs(member, seed) if seed else self._first_seed_epochs(member, position)
            if epochs <= 0:
                return
            with crash_guard(evaluator.folder, name) as made:
                found = self._train_once(evaluator, member, tried, epochs, made)
            if seed and self._was_cut_short(found[-1], member):
                logger.warning("trial %d, seed %d: cut short by the budget, not recorded", member.trial, seed)
                return
            for record in found:
                evaluator.folder.append(record)

    def _train_once(
        self, evaluator: Evaluator, member: Record, tried: Sequence[Record], epochs: float, guard: CrashGuard
    ) -> list[Record]:
        """Records of one try; the member's is the last."""
        if guard.should_skip:
            return [
                evaluator.failed_record(member.candidate, trial=member.trial, phase="verified", reason=ABANDONED_REASON)
            ]
        if not tried:
            return evaluator.train_final(member, epochs=epochs, stop=self.stop)
        found = evaluator.train_final(member, epochs=RETRY_EPOCH_SHARE * epochs, stop=self.stop)
        note = f"second try, with half of the epochs; the first failed: {tried[-1].reason}"
        return [replace(record, notes=(*record.notes, note)) for record in found]

    def _needs_training(self, tried: Sequence[Record]) -> bool:
        """Whether there is something to do, by the tries so far; a seed beyond the first has one: half is no twin."""
        if not tried:
            return True
        last = tried[-1]
        return last.status == "failed" and last.reason != ABANDONED_REASON and len(tried) < MAX_TRIES and last.seed == 0

    def _records(self, member: Record, seed: int) -> list[Record]:
        records = self.evaluator.folder.records()
        return [r for r in records if r.phase == "verified" and r.key == member.key and r.seed == seed]

    def _first_seed_record(self, member: Record) -> Record | None:
        """The member's record of seed 0, where it came to figures."""
        return next((r for r in reversed(self._records(member, 0)) if r.score is not None), None)

    def _first_seed_epochs(self, member: Record, position: int) -> float:
        """Epochs of seed 0: those asked for, or what its part of the time left allows with all its seeds."""
        wanted, left = float(self.evaluator.config.training.final_epochs), self.remaining_s()
        if left is None or not wanted:
            return wanted
        reserved = sum(self._further_seeds_s(m) for m in self.members[:position])
        mine_s = (left - reserved) / (len(self.members) - position)
        epoch_s, other_s = _epoch_and_other_s(member)
        again_s = other_s + member.epochs * epoch_s  # a further seed learns what the search has taught, too
        mine_s -= other_s + (self.n_seeds - 1) * again_s
        return min(wanted, max(0.0, mine_s / (self.n_seeds * max(epoch_s, 1e-9))))

    def _further_seeds_s(self, member: Record) -> float:
        """Seconds that the further seeds of a member will take which has its seed 0."""
        first = self._first_seed_record(member)
        left = sum(not self._records(member, seed) for seed in range(1, self.n_seeds))
        return left * _further_seed_s(member, first) if first else 0.0

    def _further_seed_epochs(self, member: Record, seed: int) -> float:
        """Epochs of a further seed on top of the search's: as many as seed 0 had, or none where time is short."""
        first, left = self._first_seed_record(member), self.remaining_s()
        if first is None:
            return 0.0
        if left is not None and left < _further_seed_s(member, first):
            logger.warning("trial %d: no time left for seed %d", member.trial, seed)
            return 0.0
        return max(first.epochs - member.epochs, 1e-9)

    def _was_cut_short(self, found: Record, member: Record) -> bool:
        first = self._first_seed_record(member)
        cut = self.stop is not None and self.stop()
        return cut and first is not None and found.status != "failed" and found.epochs < MIN_EPOCH_SHARE * first.epochs


def _epoch_and_other_s(record: Record) -> tuple[float, float]:
    """Seconds of an epoch, and of everything else, as a record of the search has them."""
    train_s = record.seconds.get("train", 0.0)
    return train_s / max(record.epochs, 1e-9), math.fsum(record.seconds.values()) - train_s


def _further_seed_s(member: Record, first: Record) -> float:
    """Seconds that a further seed takes, which begins anew, by what seed 0 took."""
    epoch_s, _ = _epoch_and_other_s(member)
    return math.fsum(first.seconds.values()) + member.epochs * epoch_s
