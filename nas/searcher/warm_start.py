"""Warm start: what a new run takes from earlier runs on the same space and data.

Taken are the objective values of their candidates, for the sampler, and members of their fronts, which are evaluated
first. Earlier runs are read once, when the new run starts, and the extract is stored in its folder: so the command can
be repeated after an earlier run has gone on or was deleted.

    runs/NAME/warm_start.json      per earlier run: path, target, and records with their gene values

- Accuracies count for candidates that passed all rungs. A candidate that was stopped early counts only as a
  low-fidelity result, with its accuracy at the first rung, as in the new run itself.
- Accuracies of another training (more epochs, say) are shifted by the median difference over the candidates that both
  runs evaluated, separately for full training and for the first rung. First-rung accuracies after another number of
  epochs are left out while the runs have no such candidates in common.
- Latencies and sizes are taken from runs on the same target only.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.config import OBJECTIVES, SearchConfig, SearchFields, TrainingFields
from nas.errors import ConfigError, one_line
from nas.files import read_json
from nas.pareto import spread
from nas.results.front import latest_by_key, objective_values, search_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.warm_start_log import WARM_START_FILE
from nas.searcher.acquisition.base import ParamsList
from nas.searcher.promotion import RungResults
from nas.searcher.resume_check import TARGET_FACTS
from nas.searcher.storage import picks_by_key
from search_spaces._base import Choice, Value

Floats = npt.NDArray[np.float64]

MAX_INITIAL_PICKS = 10
"""Members of an earlier front that are evaluated first, at most."""
MAX_PRIOR_TRIALS = 150
"""Fully trained candidates taken from one run, at most: its front, then the newest. Again as many stopped early."""


@dataclass(frozen=True, kw_only=True)
class PriorRun:
    """The extract of one earlier run. Gene values are in terms of the new run's genes.

    Attributes:
        path: of its folder.
        target: the word of its target.
        same_target: whether its latencies hold for the new run.
        told: (gene values, key, accuracy 0..1) of complete records that passed all rungs.
        stopped: key to gene values of complete records that were stopped early.
        looks: key to accuracy at the first rung, 0..1, of both kinds.
        same_look: whether its first rung ends after as many epochs as the new run's.
        records: its records, for latencies and sizes; empty for another target.
        front: gene values of members of its front that are evaluated first.
        members: key of each of these to its trial.
    """

    path: str
    target: str
    same_target: bool
    told: tuple[tuple[dict[str, Value], str, float], ...]
    records: tuple[Record, ...]
    front: tuple[dict[str, Value], ...]
    members: dict[str, int]
    stopped: dict[str, dict[str, Value]] = field(default_factory=dict)
    looks: dict[str, float] = field(default_factory=dict)
    same_look: bool = False

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return self.__dict__ | {"records": [json.loads(r.to_json()) for r in self.records]}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "PriorRun":
        """The inverse of `to_json`."""
        records = tuple(Record.from_json(json.dumps(r)) for r in raw["records"])
        told = tuple((picked, key, accuracy) for picked, key, accuracy in raw["told"])
        return cls(**{**raw, "records": records, "told": told, "front": tuple(raw["front"])})


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """The extracts of all earlier runs that a run starts from; usually none.

    Attributes:
        runs: extract of each earlier run.
        objectives: of the new run, in order.
        n_rungs: rungs of the new run.
        rung_results: results of the new run's candidates at their rungs; None stands for no results.
    """

    runs: tuple[PriorRun, ...] = ()
    objectives: tuple[str, ...] = ()
    n_rungs: int = 0
    rung_results: RungResults | None = field(default=None, compare=False)

    @property
    def records(self) -> list[Record]:
        """Records whose latencies and sizes hold for the new run."""
        return [record for run in self.runs for record in run.records]

    @property
    def initial_picks(self) -> list[dict[str, Value]]:
        """Gene values that are evaluated first."""
        return [picked for run in self.runs for picked in run.front]

    def describe_origin(self, key: str) -> str | None:
        """The earlier fronts that a candidate was on, in words; None where it was on none."""
        trials = [f"trial {run.members[key]} of {run.path}" for run in self.runs if key in run.members]
        return f"asked first, as it was on the front of an earlier run: {', '.join(trials)}" if trials else None

    def prior_trials(self, own: Sequence[Record]) -> tuple[ParamsList, Floats, Floats]:
        """Gene values, objective values and low-fidelity values of earlier candidates, for a sampler.

        Args:
            own: this run's records of the search, which tell how far earlier accuracies are shifted.

        Returns:
            k gene values, then two arrays [k, m] with a column per objective. Both are NaN but for the accuracy, and
            there where a candidate has no accuracy of that kind.
        """
        full = [r for r in own if r.status == "complete" and r.rung >= self.n_rungs]
        own_accuracies = {r.key: a for r in full if (a := r.objective("accuracy")) is not None}
        has_first_rungs = self.rung_results is not None and any(run.looks for run in self.runs)
        own_first_rungs = self.rung_results.first_rung_accuracies() if self.rung_results and has_first_rungs else {}
        picks: list[dict[str, Value]] = []
        accuracies: list[float] = []
        first_rungs: list[float] = []
        for run in self.runs:
            shift = _median_shift({key: accuracy for _, key, accuracy in run.told}, own_accuracies) or 0.0
            looks = self._shifted_first_rungs(run, own_first_rungs)
            stopped = {key: picked for key, picked in run.stopped.items() if key in looks}
            picks += [*(picked for picked, _, _ in run.told), *stopped.values()]
            accuracies += [*(accuracy + shift for _, _, accuracy in run.told), *(np.nan for _ in stopped)]
            first_rungs += [looks.get(key, np.nan) for key in (*(key for _, key, _ in run.told), *stopped)]
        return picks, self._accuracy_column(accuracies), self._accuracy_column(first_rungs)

    def _shifted_first_rungs(self, run: PriorRun, own: Mapping[str, float]) -> dict[str, float]:
        """Key to first-rung accuracy as it would be in this run; empty where that cannot be estimated."""
        shift = _median_shift(run.looks, own)
        if shift is None and not run.same_look:
            return {}
        return {key: accuracy + (shift or 0.0) for key, accuracy in run.looks.items()}

    def _accuracy_column(self, accuracies: Sequence[float]) -> Floats:
        """[k, m] The accuracies in the column of their objective, NaN elsewhere."""
        columns = np.full((len(accuracies), len(self.objectives)), np.nan)
        columns[:, self.objectives.index("accuracy")] = accuracies
        return columns


def _median_shift(earlier: Mapping[str, float], own: Mapping[str, float]) -> float | None:
    """Median of own minus earlier accuracy over the keys of both; None where they share none.

    The median, because a single candidate may differ by far more than the trainings do.
    """
    differences = [own[key] - accuracy for key, accuracy in earlier.items() if key in own]
    return float(np.median(differences)) if differences else None


def warm_start(
    folder: RunFolder,
    genes: Sequence[Choice],
    *,
    search: SearchFields,
    training: TrainingFields,
    neutral: Mapping[str, Value],
    rung_results: RungResults,
) -> WarmStart:
    """The warm start of a run: extracted from the earlier runs the first time, afterwards read from the run's folder.

    Args:
        folder: of the new run, with data.json and target.json.
        genes: all genes of the new run.
        search: names the earlier runs; space or model, data set and objectives of the new run.
        training: rungs and epochs of the new run.
        neutral: values of compression genes that change nothing, for genes that an earlier run lacks.
        rung_results: results of the new run's candidates at their rungs.

    Raises:
        ConfigError: a folder is no run, or a run of another space or other data, or without a complete record.
    """
    file = folder.path / WARM_START_FILE
    start = WarmStart(objectives=search.objectives, n_rungs=len(training.rungs), rung_results=rung_results)
    if not search.warm_start:
        return start
    if not file.exists():
        prior_runs = [_read_prior_run(path, folder, genes, search, training, neutral) for path in search.warm_start]
        folder.write(WARM_START_FILE, json.dumps([run.to_json() for run in prior_runs]))
    try:
        return replace(start, runs=tuple(PriorRun.from_json(raw) for raw in read_json(file)))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigError(
            f"{file} must be as it was written, but {one_line(error)}; restore it, or remove it to read the runs again"
        ) from None


def _read_prior_run(
    path: Path,
    folder: RunFolder,
    genes: Sequence[Choice],
    search: SearchFields,
    training: TrainingFields,
    neutral: Mapping[str, Value],
) -> PriorRun:
    earlier = RunFolder.open_existing(path)
    prior = earlier.config
    _check_comparable(earlier, prior, folder, search)
    records = {r.key: r for r in latest_by_key(earlier.records(), "search") if r.latency is not None}
    picks = {key: picked for key, picked in picks_by_key(earlier).items() if key in records}
    fitted = {key: full for key, p in picks.items() if (full := _fit_to_genes(p, genes, neutral)) is not None}
    complete = [r for r in records.values() if r.status == "complete" and r.key in fitted]
    if not complete:
        raise ConfigError(f"warm_start must name runs that have evaluated something, but {path} has no complete record")
    members = [r for r in search_front(complete, search.objectives) if r.key in fitted]
    chosen = spread(
        objective_values(members, search.objectives), [OBJECTIVES[o] for o in search.objectives], MAX_INITIAL_PICKS
    )
    front = [members[i] for i in sorted(chosen)]
    facts, prior_facts = (_read_json(each, "target.json") for each in (folder, earlier))
    is_same_target = all(facts.get(name) == prior_facts.get(name) for name in TARGET_FACTS)
    # The front first, then the newest, so that the bound cuts off old candidates that are dominated.
    trained = {r.key: r for r in [*members, *reversed(complete)] if r.rung >= len(prior.training.rungs)}
    told = list(trained.values())[:MAX_PRIOR_TRIALS]
    looks = RungResults(earlier, prior.search.objectives).first_rung_accuracies()
    stopped = [r.key for r in reversed(complete) if r.key in looks and r.rung < len(prior.training.rungs)]
    stopped = stopped[:MAX_PRIOR_TRIALS]
    return PriorRun(
        path=str(path),
        target=prior.search.target,
        same_target=is_same_target,
        told=tuple((fitted[r.key], r.key, r.objective("accuracy") or 0.0) for r in told),
        records=tuple(records.values()) if is_same_target else (),
        front=tuple(fitted[r.key] for r in front),
        members={r.key: r.trial for r in front},
        stopped={key: fitted[key] for key in stopped},
        looks={key: looks[key] for key in (*(r.key for r in told), *stopped) if key in looks},
        same_look=math.isclose(_first_rung_epochs(prior.training), _first_rung_epochs(training)),
    )


def _check_comparable(earlier: RunFolder, prior: SearchConfig, folder: RunFolder, search: SearchFields) -> None:
    """Refuse the run itself, and runs of another space or other data."""
    if earlier.path.resolve() == folder.path.resolve():
        raise ConfigError(
            f"warm_start must name another run, but {earlier.path} is this one; repeat its command to resume it"
        )
    subject = search.model or search.space
    if prior.subject != subject:
        raise ConfigError(
            f"warm_start must name runs that searched {subject}, but {earlier.path} searched {prior.subject}"
        )
    prior_digest, digest = (_read_json(each, "data.json").get("digest") for each in (earlier, folder))
    if prior_digest != digest:
        raise ConfigError(
            f"warm_start must name runs on the same data, but {earlier.path} was started with {prior.search.dataset} "
            f"of digest {str(prior_digest)[:12]}, and this run's {search.dataset} has {str(digest)[:12]}"
        )


def _first_rung_epochs(training: TrainingFields) -> float:
    return training.epochs * training.rungs[0]


def _read_json(folder: RunFolder, name: str) -> dict[str, Any]:
    fields: dict[str, Any] = folder.read_json(name)
    return fields


def _fit_to_genes(
    picked: Mapping[str, Value], genes: Sequence[Choice], neutral: Mapping[str, Value]
) -> dict[str, Value] | None:
    """Gene values as values of `genes`: the nearest options, neutral where missing; None where a word is no option."""
    full = {**neutral, **picked}
    fitted: dict[str, Value] = {}
    for gene in genes:
        if gene.name in full:
            value: Value | None = _nearest_option(full[gene.name], gene.options)
        else:
            value = gene.options[0] if len(gene.options) == 1 else None
        if value is None:
            return None
        fitted[gene.name] = value
    return fitted


def _nearest_option(value: Value, options: Sequence[Value]) -> Value | None:
    """The option that equals the value, or else the nearest number by ratio; None for a word without one.

    Of two equally near numbers the larger one: 16 bits are more like 32 than like 8. Options of 0 and below, which have
    no ratio, count as 1 plus the difference.
    """
    if value in options:
        return value
    numbers = [o for o in options if not isinstance(o, str)]
    if isinstance(value, str) or len(numbers) < len(options):
        return None

    def distance(option: int | float) -> float:
        low, high = sorted((float(option), float(value)))
        return high / low if low > 0 else 1.0 + high - low

    return min(sorted(numbers, reverse=True), key=distance)
