"""Replays of searches whose answer is known: the loop, many samplers over many seeds, the JSON file and the table.

The file keeps every replay that has ended, so a killed benchmark goes on where it stopped, and further samplers or
seeds join those that are there. What was made from other facts or by other code of the sampler is made anew.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from benchmarks._made_by import code_fingerprint

TRIAL_BUDGETS = (25, 50, 100, 200, 300)
"""Evaluations after which a search is scored."""

Configuration = Mapping[str, Any]
Evaluation = Callable[[Configuration], tuple[Sequence[float], bool | None]]
"""A pick to its values, and whether it is feasible; None in a problem where everything is."""
Metrics = dict[str, Any]
FloatArray = npt.NDArray[np.float64]


class CpuTimer:
    """Processor seconds of this process since it was made: what a busy machine does not change.

    Args:
        limit_s: after so many it is over; None is never.
    """

    def __init__(self, limit_s: float | None = None) -> None:
        self._begun, self._limit_s = time.process_time(), limit_s

    @property
    def seconds(self) -> float:
        """Spent so far."""
        return time.process_time() - self._begun

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached."""
        return self._limit_s is not None and self.seconds >= self._limit_s


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One replay: what was asked, in order, and how many processor seconds each ask and tell took."""

    configurations: list[Configuration]
    seconds: list[float]

    @property
    def summary(self) -> Metrics:
        """Share of trials that repeat an earlier one, 0..1, and processor seconds per trial."""
        names = {tuple(sorted(p.items())) for p in self.configurations}
        return {
            "trials": len(self.configurations),
            "duplicates": 1 - len(names) / len(self.configurations),
            "seconds_per_trial": float(np.mean(self.seconds)),
            "slowest_seconds": float(np.max(self.seconds)),
        }


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What is compared.

    Attributes:
        title: a line above the table.
        facts: all that figures depend on besides sampler and seed, JSON-ready.
        samplers: names on offer.
        make: (name, seed) to sampler.
        play: (name, seed) to the figures of one replay: `share` by budget, those of `Replay.summary`, and any others.
        shown: figures that follow the shares in the table: path into the means, heading, format.
    """

    title: str
    facts: Metrics
    samplers: Sequence[str]
    make: Callable[[str, int], BaseSampler]
    replay: Callable[[str, int], Metrics]
    columns: Sequence[tuple[tuple[str, ...], str, str]] = ()


def run_replay(
    sampler: BaseSampler,
    space: Mapping[str, BaseDistribution],
    evaluate: Evaluation,
    *,
    trials: int,
    limit_s: float | None,
) -> Replay:
    """Ask and tell: more accuracy and less latency are better. Ends early when `limit_s` seconds are spent."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    picks: list[Configuration] = []
    seconds: list[float] = []
    clock = CpuTimer(limit_s)
    while len(picks) < trials and not clock.is_over:
        asking = CpuTimer()
        trial = study.ask(dict(space))
        asked_s = asking.seconds
        values, feasible = evaluate(trial.params)
        if feasible is not None:
            trial.set_constraint("feasible", 0.0 if feasible else 1.0)
        telling = CpuTimer()
        study.tell(trial, list(values))
        seconds.append(asked_s + telling.seconds)
        picks.append(dict(trial.params))
    return Replay(configurations=picks, seconds=seconds)


def hypervolume_curve(points: FloatArray, hypervolume: Callable[[FloatArray], float]) -> list[float]:
    """What `hypervolume` gives for the front of the first 1, 2, 3, ... points.

    Args:
        points: [n, 2], more of the first and less of the second is better; rows with a NaN change nothing.
        hypervolume: of points [k, 2], which grows with the front only.
    """
    front = np.empty((0, 2))
    found = [0.0]
    for good in points * [1.0, -1.0]:
        if np.isnan(good).any() or (front >= good).all(axis=1).any():
            found.append(found[-1])
            continue
        front = np.vstack([front[~(front <= good).all(axis=1)], good])
        found.append(hypervolume(front * [1.0, -1.0]))
    return found[1:]


def make_parser(description: str, samplers: Sequence[str], *, trials: int, seeds: int) -> argparse.ArgumentParser:
    """A parser with the flags that all such benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sampler", default="screened", help=f"one or more, with commas: {', '.join(samplers)}, or all"
    )
    parser.add_argument("--trials", type=_positive, default=trials)
    parser.add_argument("--seeds", type=_positive, default=seeds, help="0, 1, ... so many")
    parser.add_argument(
        "--time-limit", type=float, help="processor seconds for a replay; what is cut short says how far it came"
    )
    parser.add_argument("--json", type=Path, help="where figures are kept; a killed benchmark goes on from there")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser


def compare_samplers(benchmark: Benchmark, options: argparse.Namespace) -> Metrics:
    """Play all samplers and seeds that the file lacks, print the table, and return what the file holds.

    Raises:
        SystemExit: a sampler is unknown, or the file is none of ours.
    """
    usual = [name for name in benchmark.samplers if not name.startswith("screened-")]
    names = usual if options.sampler == "all" else options.sampler.split(",")
    if unknown := [n for n in names if n not in benchmark.samplers]:
        raise SystemExit(f"--sampler must name some of {', '.join(benchmark.samplers)}, but got {', '.join(unknown)}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    result: Metrics = {**benchmark.facts, "samplers": _read_kept(options.json, benchmark.facts)}
    budgets = [b for b in TRIAL_BUDGETS if b <= options.trials]
    shown = [*((("share", str(b)), f"@{b}", "8.4f") for b in budgets), *benchmark.columns]
    row = _format_markdown if options.markdown else _format_line
    print(f"{benchmark.title}\n")
    print(row("sampler", [(heading, _width(form)) for _, heading, form in shown]))
    if options.markdown:
        print("|---" * (len(shown) + 1) + "|")
    for name in names:
        runs = _replay_seeds(benchmark, name, options, result)
        mean_all = result["samplers"][name]["mean"] = mean_metrics(runs[: options.seeds])
        cut = f", ended after {mean_all['trials']:.0f}" if mean_all["trials"] < options.trials else ""
        cells = [(_cell(mean_all, path, form), _width(form)) for path, _, form in shown]
        print(row(name + cut, cells), flush=True)
        _write(options.json, result)
    return result


def mean_metrics(runs: Sequence[Metrics]) -> Metrics:
    """Means over runs of all numbers; lists as far as the shortest; a figure that some run lacks is left out."""
    found: Metrics = {}
    for key, first in runs[0].items():
        values = [run.get(key) for run in runs]
        if isinstance(first, Mapping):
            found[key] = mean_metrics([v or {} for v in values])
        elif isinstance(first, list):
            length = min(len(v or ()) for v in values)
            found[key] = np.mean([list(v or ())[:length] for v in values], axis=0).round(5).tolist() if length else []
        elif all(v is not None for v in values):
            found[key] = float(np.mean(values))
    return found


def _replay_seeds(bench: Benchmark, name: str, options: argparse.Namespace, result: Metrics) -> list[Metrics]:
    """The runs of a sampler, one a seed, made as far as they are not there."""
    limits = {"made_by": code_fingerprint(bench.make(name, 0)), "time_limit": options.time_limit}
    kept = result["samplers"].get(name, {})
    if any(kept.get(k) != v for k, v in limits.items()):
        kept = {**limits, "mean": {}, "runs": []}
    result["samplers"][name] = kept
    runs: list[Metrics] = kept["runs"]
    for seed in range(len(runs), options.seeds):
        started = time.perf_counter()
        runs.append(bench.replay(name, seed))
        _write(options.json, result)
        done = f"{name}: seed {seed + 1} of {options.seeds}, {time.perf_counter() - started:.0f} s"
        print(done, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
    return runs


def _read_kept(file: Path | None, facts: Metrics) -> Metrics:
    """Samplers of an earlier call with the same facts, by name."""
    if file is None or not file.exists():
        return {}
    try:
        before = json.loads(file.read_text())
        samplers: Metrics = before.pop("samplers")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SystemExit(f"{file} must hold figures of this benchmark, but holds something else; move it") from None
    if before != json.loads(json.dumps(facts)):
        print(f"{file} was made from other facts, so it is made anew", file=sys.stderr)
        return {}
    return samplers


def _write(file: Path | None, result: Metrics) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}")
        beside.write_text(json.dumps(result, indent=1) + "\n")
        beside.replace(file)


def _cell(figures: Metrics, path: Sequence[str], form: str) -> str:
    found: Any = figures
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return "-" if found is None else f"{found:{form}}".strip()


def _format_line(name: str, cells: Sequence[tuple[str, int]]) -> str:
    return f"{name:18}" + "".join(f"{text:>{width}}" for text, width in cells)


def _format_markdown(name: str, cells: Sequence[tuple[str, int]]) -> str:
    return f"| {name} | " + " | ".join(text for text, _ in cells) + " |"


def _width(form: str) -> int:
    return int(form.split(".")[0])


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, but got {number}")
    return number
