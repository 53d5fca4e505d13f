"""Final training: members of the search front trained to their end, exported, scored and measured again.

Each member is trained with one seed or several. Seed 0 continues from the weights of the search, and its file ships.
The best of several seeds by validation accuracy does not ship instead: it would be selected by the very figure that is
reported, so the figure would be biased upwards. Further seeds start from weights of their own, with their own order of
images, and train for as many epochs as seed 0 did in all; they show how much of a member's rank is chance. All members
complete seed 0 before any starts seed 1. With a protocol of folds the further trainings are those of the further folds:
they start from fresh weights too, on the data of their fold, and `seed` is the number of the fold.

A training that has its record is not repeated. One that failed is tried once more with half of the epochs, which also
lowers the learning rate where training continues from trained weights. One that keeps crashing its worker is abandoned,
see `nas.searcher.workforce`.
"""

import logging
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.config import TrainingFields
from nas.errors import WorkerDeathError
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.online_latency import SAMPLES_FILE
from nas.files import read_text, write_atomic
from nas.pipeline import Step
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.seed_variance import MIN_EPOCH_SHARE
from nas.searcher.workforce import Flow, Steps, Workforce, is_abandoned
from nas.training.trainer import ShouldStop

logger = logging.getLogger(__name__)

RETRY_EPOCH_SHARE = 0.5
"""Share of the epochs in the second attempt at a member whose first one failed."""
MAX_ATTEMPTS = 2


def train_member(
    evaluator: Evaluator, *, record: Record, epochs: float, seed: int, stop: ShouldStop | None
) -> list[Record]:
    """Train a member with one of its seeds, see `Evaluator.train_final`."""
    return replace(evaluator, seed_index=seed).train_final(record, epochs=epochs, stop=stop)


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """Trains members of the front to their end, and appends their records. Life: made, `run` once.

    Attributes:
        evaluator: of the run; makes the record of a member that fails.
        folder: the run.
        training: epochs and seeds of the final training.
        members: complete records of the search, the most informative first.
        workforce: takes the trainings to workers.
        n_workers: trainings at once.
        remaining_s: returns the seconds that remain of the time limit, or None without one.
        training_s: returns the seconds until training has to end, or None without a time limit.
        on_progress: called after each training.
        n_now: how many of the members, the first ones, are trained by this call; the time is divided among all.
        enter_fold: hands the data of a fold to the workers, before the trainings of that number from 1 on; None where
            further trainings are on the same data.
    """

    evaluator: Evaluator
    folder: RunFolder
    training: TrainingFields
    members: Sequence[Record]
    workforce: Workforce
    n_workers: int
    remaining_s: Callable[[], float | None]
    training_s: Callable[[], float | None]
    on_progress: Callable[[], None]
    n_now: int | None = None
    enter_fold: Callable[[int], None] | None = None

    @property
    def n_seeds(self) -> int:
        """Trainings of each member."""
        return self.training.verify_seeds

    def run(self) -> None:
        """Do every training that has no record yet, as far as the time limit allows."""
        for seed in range(self.n_seeds):
            members = self.members[: self.n_now]
            if seed and self.enter_fold and any(self._needs_training(self._records(m, seed)) for m in members):
                self.enter_fold(seed)
            places = iter(enumerate(members))
            self.workforce.run(lambda places=places, seed=seed: self._next_flow(places, seed))  # type: ignore[misc]

    def _next_flow(self, places: Iterator[tuple[int, Record]], seed: int) -> Flow | None:
        position, member = next(places, (0, None))
        if member is None:
            return None
        name = f"trial {member.trial}" + (f", seed {seed}" if seed else "")
        key = f"{member.key}-final" + (f"-{seed}" if seed else "")
        return Flow(name=name, key=key, steps=self._train_member(member, position, seed))

    def _train_member(self, member: Record, position: int, seed: int) -> Steps:
        while self._needs_training(attempts := self._records(member, seed)):
            epochs = self._planned_epochs(member, position, seed)
            if epochs <= 0:
                break
            records = yield from self._train_once(member, attempts, epochs, seed)
            self._plan_path(member, seed).unlink(missing_ok=True)
            if seed and self._was_cut_short(records[-1], member):
                logger.warning("trial %d, seed %d: cut short by the time limit, not recorded", member.trial, seed)
                break
            for record in records:
                self.folder.append(record)
        self.on_progress()

    def _planned_epochs(self, member: Record, position: int, seed: int) -> float:
        """Epochs of a training; one that was interrupted keeps those it began with, and goes on."""
        path = self._plan_path(member, seed)
        if path.exists():
            return float(read_text(path))
        epochs = self._further_seed_epochs(member, seed) if seed else self._first_seed_epochs(member, position)
        if epochs > 0:
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, repr(epochs).encode())
        return epochs

    def _plan_path(self, member: Record, seed: int) -> Path:
        return self.folder.path / "checkpoints" / f"{member.key}-epochs-{seed}.txt"

    def _train_once(
        self, member: Record, attempts: Sequence[Record], epochs: float, seed: int
    ) -> Generator[Step, Any, list[Record]]:
        """Records of one attempt; the member's own is the last."""
        share = RETRY_EPOCH_SHARE if attempts else 1.0
        arguments = {"record": member, "epochs": share * epochs, "seed": seed}
        files = (f"checkpoints/{member.key}-*", SAMPLES_FILE)
        try:
            records: list[Record] = yield Step(
                name="final training", function=train_member, arguments=arguments, files=files, measures=True
            )
        except WorkerDeathError as death:
            evaluator = replace(self.evaluator, seed_index=seed)
            failed = evaluator.failed_record(member.candidate, trial=member.trial, phase="verified", reason=str(death))
            return [failed]
        if not attempts:
            return records
        note = f"second try, with half of the epochs; the first failed: {attempts[-1].reason}"
        return [replace(record, notes=(*record.notes, note)) for record in records]

    def _needs_training(self, attempts: Sequence[Record]) -> bool:
        """Whether another attempt follows these.

        Only seed 0 is tried again: a further seed with half of the epochs would not be comparable with seed 0.
        """
        if not attempts:
            return True
        last = attempts[-1]
        return (
            last.status == "failed"
            and not is_abandoned(last.reason)
            and len(attempts) < MAX_ATTEMPTS
            and last.seed == 0
        )

    def _records(self, member: Record, seed: int) -> list[Record]:
        return [r for r in self.folder.records() if r.phase == "verified" and r.key == member.key and r.seed == seed]

    def _first_seed_record(self, member: Record) -> Record | None:
        """The member's latest record of seed 0 that has a score; None without one."""
        return next((r for r in reversed(self._records(member, 0)) if r.score is not None), None)

    def _first_seed_epochs(self, member: Record, position: int) -> float:
        """Epochs of seed 0 on top of the search's: `final_epochs`, or what the time limit allows.

        The time that remains of all workers, less what the members before this one still need for their further seeds,
        is divided evenly among the members that follow and those in training. A member's part t has to pay for all of
        its n seeds. With e seconds per epoch, o seconds of everything else and s epochs in the search, E final epochs
        take

            seed 0:            o + E e                   (continues from the search's weights)
            each further seed: o + (s + E) e             (repeats the search's epochs)

        so t = o + (n - 1) (o + s e) + n E e, which is solved for E.
        """
        remaining_s = self.remaining_s()
        if remaining_s is None:
            return self.training.model_epochs
        requested = math.inf if self.training.final_epochs is None else self.training.final_epochs
        reserved_s = sum(self._further_seeds_s(m) for m in self.members[:position])
        n_members = len(self.members) - position + self.workforce.n_under_way
        member_s = min(remaining_s, (self.n_workers * remaining_s - reserved_s) / n_members)
        epoch_s, other_s = _epoch_and_other_s(member)
        restart_s = other_s + member.epochs * epoch_s
        member_s -= other_s + (self.n_seeds - 1) * restart_s
        # A record without training time has epoch_s = 0: the bound keeps the quotient finite.
        return min(requested, max(0.0, member_s / (self.n_seeds * max(epoch_s, 1e-9))))

    def _further_seeds_s(self, member: Record) -> float:
        """Seconds that the missing seeds of a member will take; 0 where seed 0 has no score."""
        first = self._first_seed_record(member)
        n_missing = sum(not self._records(member, seed) for seed in range(1, self.n_seeds))
        return n_missing * _further_seed_s(member, first) if first else 0.0

    def _further_seed_epochs(self, member: Record, seed: int) -> float:
        """Epochs of a further seed on top of the search's: as many as seed 0 had; 0 where time is short."""
        first, remaining_s = self._first_seed_record(member), self.remaining_s()
        if first is None:
            return 0.0
        if remaining_s is not None and remaining_s < _further_seed_s(member, first):
            logger.warning("trial %d: no time left for seed %d", member.trial, seed)
            return 0.0
        # Positive even if seed 0 added no epochs, because 0 means that the seed is left out.
        return max(first.epochs - member.epochs, 1e-9)

    def _was_cut_short(self, record: Record, member: Record) -> bool:
        """Whether the time limit ended a further seed at so few epochs that it does not compare with seed 0."""
        first = self._first_seed_record(member)
        training_s = self.training_s()
        is_over = training_s is not None and training_s <= 0
        return (
            is_over
            and first is not None
            and record.status != "failed"
            and record.epochs < MIN_EPOCH_SHARE * first.epochs
        )


def _epoch_and_other_s(record: Record) -> tuple[float, float]:
    """Seconds per epoch, and seconds of everything but training, from a record of the search."""
    train_s = record.seconds.get("train", 0.0)
    return train_s / max(record.epochs, 1e-9), math.fsum(record.seconds.values()) - train_s


def _further_seed_s(member: Record, first: Record) -> float:
    """Seconds of a further seed: what seed 0 took, and the epochs of the search once more."""
    epoch_s, _ = _epoch_and_other_s(member)
    return math.fsum(first.seconds.values()) + member.epochs * epoch_s
