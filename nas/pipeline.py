"""The flow, on one page: from a candidate to one ONNX file, and a record of the figures that were read off the file.

1. Build, prune the shape, export untrained, count, measure: seconds.
2. Stop if a constraint on latency, size or memory is violated: what cannot ship is not trained.
3. Train in rungs; after each, only promoted candidates continue: minutes.
4. Compress, export, check parity, score the file, measure the file.

`candidate_flow` spells these steps for a candidate of the search, and a worker takes each. `Evaluator.train_final`
trains a member of the front further and takes step 4 again.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas.evaluation.evaluator import Evaluator, Progress
from nas.evaluation.online_latency import SAMPLES_FILE
from nas.evaluation.untrained import UntrainedMetrics
from nas.results.record import Record

Promote = Callable[[int, float, UntrainedMetrics], bool]
"""From (finished rungs, accuracy after them, untrained metrics) to whether the candidate trains for another rung."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a flow, which any process can take that has an evaluator of the run.

    Attributes:
        name: of the step; its crashes are counted by candidate and name.
        function: takes the evaluator, `stop` and the arguments; importable by its name.
        arguments: values that can be pickled.
        files: patterns of the files that it reads, below the run folder.
        measures: whether it may time files on the target, which one step does at a time.
    """

    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    files: tuple[str, ...] = ()
    measures: bool = False


def candidate_flow(
    record: Record,
    *,
    rung: int,
    n_rungs: int,
    promote: Promote,
    is_search_over: Callable[[], bool],
    front: Callable[[], Sequence[Record]] = tuple,
) -> Generator[Step, Progress, Record]:
    """The flow of one candidate of the search: yields each step, receives its progress, and returns the record.

    Args:
        record: empty, of the candidate.
        rung: finished rungs, of which there is a checkpoint; 0 for a new candidate.
        n_rungs: rungs of the search.
        promote: decides after each rung whether training continues.
        is_search_over: whether the time of the search is spent; the candidate then ends with its present rung.
        front: returns the front of the search so far.
    """
    files = (f"checkpoints/{record.key}-*",)
    drafted = yield Step(
        name="draft", function=Evaluator.draft, arguments={"record": record}, files=(SAMPLES_FILE,), measures=True
    )
    record, untrained, accuracy = drafted.record, drafted.untrained, None
    if drafted.is_final or untrained is None:
        return record
    # Promotion is decided before a rung, not after the last one, so that a search which was interrupted between a
    # checkpoint and the decision decides again.
    while rung < n_rungs:
        if rung:
            if is_search_over():
                break
            if accuracy is None:
                arguments: dict[str, Any] = {"record": record}
                scored = yield Step(name="score", function=Evaluator.score_rung, arguments=arguments, files=files)
                record, accuracy = scored.record, scored.accuracy
                if accuracy is None:
                    return record
            if not promote(rung, accuracy, untrained):
                break
        arguments = {"record": record, "rung": rung}
        trained = yield Step(name=f"rung {rung + 1}", function=Evaluator.train_rung, arguments=arguments, files=files)
        if trained.is_final:
            return trained.record
        record, accuracy, rung = trained.record, trained.accuracy, rung + 1
    arguments = {"record": record, "front": front()}
    finished = yield Step(
        name="finish", function=Evaluator.finish, arguments=arguments, files=(*files, SAMPLES_FILE), measures=True
    )
    return finished.record
