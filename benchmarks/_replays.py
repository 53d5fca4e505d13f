"""Replays of searches on problems with known values: the loop, samplers by seeds, the JSON file and the table.

The file keeps every finished replay. A killed benchmark therefore resumes, and further samplers or seeds are added.
Replays of another problem or of other sampler code are discarded and computed again.
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

from benchmarks._code_fingerprint import code_fingerprint

TRIAL_BUDGETS = (25, 50, 100, 200, 300)
"""Evaluations after which a search is scored."""

Configuration = Mapping[str, Any]
Evaluation = Callable[[Configuration], tuple[Sequence[float], bool | None]]
"""A configuration to its values and its feasibility, which is None in a problem without constraints."""
Metrics = dict[str, Any]
FloatArray = npt.NDArray[np.float64]


class CpuTimer:
    """Processor seconds of this process since the timer was made; other processes hardly change them.

    Args:
        limit_s: seconds after which `is_over`; None for never.
    """

    def __init__(self, limit_s: float | None = None) -> None:
        self._begun, self._limit_s = time.process_time(), limit_s

    @property
    def seconds(self) -> float:
        """Processor seconds so far."""
        return time.process_time() - self._begun

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached."""
        return self._limit_s is not None and self.seconds >= self._limit_s


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One replay.

    Attributes:
        configurations: proposals, in order.
        seconds: processor seconds that the sampler took for each proposal and its update.
    """

    configurations: list[Configuration]
    seconds: list[float]

    @property
    def summary(self) -> Metrics:
        """Number of trials, share of duplicates 0..1, and processor seconds per trial (mean and maximum)."""
        distinct = {tuple(sorted(p.items())) for p in self.configurations}
        return {
            "trials": len(self.configurations),
            "duplicates": 1 - len(distinct) / len(self.configurations),
            "seconds_per_trial": float(np.mean(self.seconds)),
            "slowest_seconds": float(np.max(self.seconds)),
        }


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A comparison of samplers on one problem.

    Attributes:
        title: line above the table.
        facts: everything besides sampler and seed on which the figures depend, JSON-ready.
        samplers: names on offer.
        make: (name, seed) to sampler.
        replay: (name, seed) to the figures of one replay: `share` by budget, `Replay.summary`, and any others.
        columns: figures printed after the shares: path in the means, heading, format.
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
    """Run one search with ask and tell.

    Args:
        sampler: makes the proposals.
        space: gene to distribution.
        evaluate: configuration to values (the first maximised, the second minimised) and feasibility.
        trials: number of proposals.
        limit_s: processor seconds after which the replay ends early; None for no limit.
    """
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    configurations: list[Configuration] = []
    seconds: list[float] = []
    clock = CpuTimer(limit_s)
    while len(configurations) < trials and not clock.is_over:
        ask_timer = CpuTimer()
        trial = study.ask(dict(space))
        ask_s = ask_timer.seconds
        values, feasible = evaluate(trial.params)
        if feasible is not None:
            trial.set_constraint("feasible", 0.0 if feasible else 1.0)
        tell_timer = CpuTimer()
        study.tell(trial, list(values))
        seconds.append(ask_s + tell_timer.seconds)
        configurations.append(dict(trial.params))
    return Replay(configurations=configurations, seconds=seconds)


def hypervolume_curve(points: FloatArray, hypervolume: Callable[[FloatArray], float]) -> list[float]:
    """The hypervolume of the first 1, 2, 3, ... points.

    Args:
        points: [n, 2], the first objective maximised, the second minimised; rows with a NaN are skipped.
        hypervolume: of points [k, 2]; it must depend on their front only.
    """
    front = np.empty((0, 2))
    curve = [0.0]
    for point in points * [1.0, -1.0]:  # both maximised
        if np.isnan(point).any() or (front >= point).all(axis=1).any():
            curve.append(curve[-1])
            continue
        front = np.vstack([front[~(front <= point).all(axis=1)], point])
        curve.append(hypervolume(front * [1.0, -1.0]))
    return curve[1:]


def make_parser(description: str, samplers: Sequence[str], *, trials: int, seeds: int) -> argparse.ArgumentParser:
    """A parser with the options that all search benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sampler", default="screened", help=f"comma-separated names: {', '.join(samplers)}; or all")
    parser.add_argument("--trials", type=_positive, default=trials)
    parser.add_argument("--seeds", type=_positive, default=seeds, help="number of seeds: 0, 1, ...")
    parser.add_argument(
        "--time-limit", type=float, help="processor seconds per replay; the table states how many trials were reached"
    )
    parser.add_argument("--json", type=Path, help="file of the figures, from which a killed benchmark resumes")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser


def compare_samplers(benchmark: Benchmark, options: argparse.Namespace) -> Metrics:
    """Run the replays that the file lacks, print the table, and return the content of the file.

    Raises:
        SystemExit: a sampler is unknown, or the file was not written by this benchmark.
    """
    complete = [name for name in benchmark.samplers if not name.startswith("screened-")]
    names = complete if options.sampler == "all" else options.sampler.split(",")
    if unknown := [n for n in names if n not in benchmark.samplers]:
        raise SystemExit(f"--sampler must name some of {', '.join(benchmark.samplers)}, but got {', '.join(unknown)}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    result: Metrics = {**benchmark.facts, "samplers": _read_kept(options.json, benchmark.facts)}
    budgets = [b for b in TRIAL_BUDGETS if b <= options.trials]
    columns = [*((("share", str(b)), f"@{b}", "8.4f") for b in budgets), *benchmark.columns]
    row = _format_markdown if options.markdown else _format_line
    print(f"{benchmark.title}\n")
    print(row("sampler", [(heading, _width(form)) for _, heading, form in columns]))
    if options.markdown:
        print("|---" * (len(columns) + 1) + "|")
    for name in names:
        runs = _replay_seeds(benchmark, name, options, result)
        means = result["samplers"][name]["mean"] = mean_metrics(runs[: options.seeds])
        note = f", stopped after {means['trials']:.0f}" if means["trials"] < options.trials else ""
        cells = [(_cell(means, path, form), _width(form)) for path, _, form in columns]
        print(row(name + note, cells), flush=True)
        _write(options.json, result)
    return result


def mean_metrics(runs: Sequence[Metrics]) -> Metrics:
    """Means over runs of all numbers.

    Lists are as long as the shortest, and a figure that some run lacks is left out.
    """
    means: Metrics = {}
    for key, first in runs[0].items():
        values = [run.get(key) for run in runs]
        if isinstance(first, Mapping):
            means[key] = mean_metrics([v or {} for v in values])
        elif isinstance(first, list):
            length = min(len(v or ()) for v in values)
            means[key] = np.mean([list(v or ())[:length] for v in values], axis=0).round(5).tolist() if length else []
        elif all(v is not None for v in values):
            means[key] = float(np.mean(values))
    return means


def _replay_seeds(benchmark: Benchmark, name: str, options: argparse.Namespace, result: Metrics) -> list[Metrics]:
    """The runs of a sampler, one per seed; missing ones are computed and written."""
    provenance = {"made_by": code_fingerprint(benchmark.make(name, 0)), "time_limit": options.time_limit}
    kept = result["samplers"].get(name, {})
    if any(kept.get(k) != v for k, v in provenance.items()):
        kept = {**provenance, "mean": {}, "runs": []}
    result["samplers"][name] = kept
    runs: list[Metrics] = kept["runs"]
    for seed in range(len(runs), options.seeds):
        started = time.perf_counter()
        runs.append(benchmark.replay(name, seed))
        _write(options.json, result)
        message = f"{name}: seed {seed + 1} of {options.seeds}, {time.perf_counter() - started:.0f} s"
        print(message, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
    return runs


def _read_kept(file: Path | None, facts: Metrics) -> Metrics:
    """Figures by sampler of an earlier call on the same problem; empty without one."""
    if file is None or not file.exists():
        return {}
    try:
        kept = json.loads(file.read_text())
        samplers: Metrics = kept.pop("samplers")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SystemExit(
            f"{file} must hold figures of this benchmark, but holds something else; move or delete it"
        ) from None
    if kept != json.loads(json.dumps(facts)):
        print(f"{file} holds figures of another problem, so all are computed again", file=sys.stderr)
        return {}
    return samplers


def _write(file: Path | None, result: Metrics) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}")
        temporary.write_text(json.dumps(result, indent=1) + "\n")
        temporary.replace(file)


def _cell(figures: Metrics, path: Sequence[str], form: str) -> str:
    value: Any = figures
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return "-" if value is None else f"{value:{form}}".strip()


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
