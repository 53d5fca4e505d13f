"""Search loop of `benchmarks.many_records`: the tool's own, on a run with many records, without any evaluation.

    python -m benchmarks._many_trials RUN_FOLDER TRIALS OUT.json

Written are seconds: from the start of the process to the end of the first `ask`, of the later ones, and of each trial
as a whole, wall and processor time. Importing torch and reading the data set are left out of the first.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STARTED = time.clock_gettime(time.CLOCK_MONOTONIC) - time.process_time()  # the interpreter itself has started by now


class Clock:
    """Wall and processor time, less what was excluded."""

    def __init__(self) -> None:
        self._excluded = [0.0, 0.0]

    def now(self) -> list[float]:
        """Seconds since the process started."""
        times = time.clock_gettime(time.CLOCK_MONOTONIC) - STARTED, time.process_time()
        return [each - left for each, left in zip(times, self._excluded, strict=True)]

    def excluded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time does not count."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            begin = self.now()
            try:
                return function(*arguments, **keywords)
            finally:
                self._excluded = [e + n - b for e, n, b in zip(self._excluded, self.now(), begin, strict=True)]

        return call


def main() -> None:
    """Run the loop, write the figures."""
    path, n_trials, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    clock = Clock()
    clock.excluded(__import__)("torch")
    from nas.api.searching import search
    from nas.results.run_folder import RunFolder
    from nas.searcher import assembly, searcher
    from nas.searcher.study import Study

    asked: list[tuple[list[float], list[float]]] = []
    ask = Study.ask

    def timed_ask(*arguments: Any) -> Any:
        begin = clock.now()
        trial = ask(*arguments)
        asked.append((begin, clock.now()))
        return trial

    folder = RunFolder(path)
    n_records = sum(1 for _ in (path / "records.jsonl").open())
    evaluate = SyntheticEvaluation(path)
    Study.ask = timed_ask  # type: ignore[method-assign]
    searcher.candidate_flow = evaluate  # type: ignore[assignment]
    assembly.load_data = clock.excluded(assembly.load_data)  # type: ignore[attr-defined]
    searcher.Searcher.close = lambda _: folder  # type: ignore[method-assign]  # the report is a step of its own
    search(folder.config.with_fields(runs=path.parent, trials=n_records + n_trials))
    out.write_text(json.dumps(figures(asked), indent=1))


class SyntheticEvaluation:
    """Records by the formula of `benchmarks.many_records`, after the first record of a run."""

    def __init__(self, path: Path) -> None:
        with (path / "records.jsonl").open() as file:
            self._template = json.loads(file.readline())

    def __call__(self, empty: Any, **_: Any) -> Iterator[Any]:
        """The flow of a candidate without any task: `empty` is its record so far."""
        from benchmarks.many_records import synthetic_record
        from nas.results.record import Record

        named = {"key": empty.candidate.key, "candidate": json.loads(empty.candidate.to_json())}
        return Record.from_json(json.dumps(synthetic_record(self._template, empty.trial, named)))
        yield  # a flow is a generator


def figures(asked: list[tuple[list[float], list[float]]]) -> dict[str, float]:
    """Seconds by name, of the asks with begin and end in wall and processor time."""
    found: dict[str, float] = {}
    for i, kind in enumerate(("wall", "processor")):
        later = [end[i] - begin[i] for begin, end in asked[1:]]
        found |= {
            f"resume {kind}": asked[0][1][i],
            f"ask, mean {kind}": sum(later) / len(later),
            f"ask, slowest {kind}": max(later),
            f"overhead of a trial, mean {kind}": (asked[-1][1][i] - asked[0][1][i]) / len(later),
        }
    return found


if __name__ == "__main__":
    main()
