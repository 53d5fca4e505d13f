"""What earlier runs on the same space teach a new one: their candidates' values, and their fronts to begin with.

What is learned is read once, when the new run begins, and kept in its folder: an earlier run may go on or be deleted,
and the same command still repeats.

    runs/NAME/warm_start.json      of each earlier run where it is, on which target, and its records with their picks

Accuracies are those of candidates that went through all rungs: what was stopped early says nothing of the end. It
counts for what it showed at its first rung, as the first looks of the run itself do. Both kinds of another training
(more epochs, another search) are moved by the median difference of the candidates that both runs have so; first looks
after another number of epochs are left out while there are no such candidates. Latencies and sizes are taken over from
the same target only.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.config import OBJECTIVES, SearchConfig
from nas.errors import ConfigError
from nas.pareto import spread
from nas.results.front import latest_by_key, objective_values, search_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.warm_start_log import WARM_START_FILE
from nas.searcher.acquisition.base import ParamsList
from nas.searcher.promotion import first_rung_accuracies
from nas.searcher.resume_check import TARGET_FACTS
from nas.searcher.storage import picks_by_key
from search_spaces._base import Choice, Value

Floats = npt.NDArray[np.float64]

MAX_INITIAL_PICKS = 10
"""Members of a front that are asked first."""
MAX_PRIOR_TRIALS = 150
"""Records of a run that are learned from: its front and the newest. As many of those that were stopped early."""


@dataclass(frozen=True, kw_only=True)
class PriorRun:
    """What was kept of one earlier run.

    Attributes:
        path: where it was.
        target: the word of its target.
        same_target: whether its latencies hold for this run.
        told: picks of its complete records that went through all rungs, in this run's genes, with their keys and
            accuracies, 0..1.
        stopped: keys to picks, in this run's genes, of its complete records that were stopped early.
        looks: keys of both kinds to the accuracy at the first rung, 0..1.
        same_look: whether a first look took as many epochs as in this run.
        records: its records of the same target; empty for another.
        front: picks of the members of its front that are asked first.
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
        """Fields as JSON knows them."""
        return self.__dict__ | {"records": [json.loads(r.to_json()) for r in self.records]}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "PriorRun":
        """The inverse of `to_json`."""
        records = tuple(Record.from_json(json.dumps(r)) for r in raw["records"])
        told = tuple((picked, key, accuracy) for picked, key, accuracy in raw["told"])
        return cls(**{**raw, "records": records, "told": told, "front": tuple(raw["front"])})


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """All earlier runs of one run; none is the usual case. Objectives, number of rungs and folder are that run's."""

    runs: tuple[PriorRun, ...] = ()
    objectives: tuple[str, ...] = ()
    n_rungs: int = 0
    folder: RunFolder | None = None

    @property
    def records(self) -> list[Record]:
        """Records whose latencies and sizes hold for this run."""
        return [record for run in self.runs for record in run.records]

    @property
    def initial_picks(self) -> list[dict[str, Value]]:
        """Picks that are asked first."""
        return [picked for run in self.runs for picked in run.front]

    def describe_origin(self, key: str) -> str | None:
        """Whose front a candidate was on, in words; None for what is new."""
        found = [f"trial {run.members[key]} of {run.path}" for run in self.runs if key in run.members]
        return f"asked first, as it was on the front of an earlier run: {', '.join(found)}" if found else None

    def prior_trials(self, own: Sequence[Record]) -> tuple[ParamsList, Floats, Floats]:
        """Picks, values and first looks [k, m] for a sampler, in the order of the objectives; NaN but for the accuracy.

        Args:
            own: this run's records of the search, which say how far the accuracies of an earlier one have to be moved.
        """
        full = [r for r in own if r.status == "complete" and r.rung >= self.n_rungs]
        mine = {r.key: a for r in full if (a := r.objective("accuracy")) is not None}
        looked = any(run.looks for run in self.runs)
        my_looks = first_rung_accuracies(self.folder, self.objectives) if self.folder and looked else {}
        picks: list[dict[str, Value]] = []
        accuracies: list[float] = []
        seen: list[float] = []
        for run in self.runs:
            moved = _offset({key: accuracy for _, key, accuracy in run.told}, mine) or 0.0
            apart = _offset(run.looks, my_looks)
            looks = {} if apart is None and not run.same_look else {k: a + (apart or 0.0) for k, a in run.looks.items()}
            only_seen = {key: picked for key, picked in run.stopped.items() if key in looks}
            picks += [*(picked for picked, _, _ in run.told), *only_seen.values()]
            accuracies += [*(accuracy + moved for _, _, accuracy in run.told), *(np.nan for _ in only_seen)]
            seen += [looks.get(key, np.nan) for key in (*(key for _, key, _ in run.told), *only_seen)]
        return picks, self._accuracy_column(accuracies), self._accuracy_column(seen)

    def _accuracy_column(self, accuracies: Sequence[float]) -> Floats:
        """[k, m] The accuracies among the objectives, NaN elsewhere."""
        found = np.full((len(accuracies), len(self.objectives)), np.nan)
        found[:, self.objectives.index("accuracy")] = accuracies
        return found


def _offset(theirs: Mapping[str, float], mine: Mapping[str, float]) -> float | None:
    """By how much mine are more, in the median over what both have; None where they have nothing in common."""
    apart = [mine[key] - accuracy for key, accuracy in theirs.items() if key in mine]
    return float(np.median(apart)) if apart else None


def warm_start(
    folder: RunFolder, config: SearchConfig, genes: Sequence[Choice], *, neutral: Mapping[str, Value]
) -> WarmStart:
    """What the run was begun with: read from the earlier runs the first time, from the run's own folder later.

    Args:
        folder: of the new run, with data.json and target.json.
        config: of the new run.
        genes: all genes of the new run.
        neutral: values of compression genes that change nothing, for genes that an earlier run did not have.

    Raises:
        ConfigError: one of them is no run, or of another space or other data; in one line.
    """
    file = folder.path / WARM_START_FILE
    if not config.search.warm_start:
        return WarmStart(objectives=config.search.objectives, n_rungs=len(config.training.rungs))
    with folder.lock("warm-start", wait=True):
        if not file.exists():
            found = [_read_prior_run(path, folder, config, genes, neutral) for path in config.search.warm_start]
            folder.write(WARM_START_FILE, json.dumps([run.to_json() for run in found]))
    runs = tuple(PriorRun.from_json(raw) for raw in json.loads(file.read_text()))
    return WarmStart(runs=runs, objectives=config.search.objectives, n_rungs=len(config.training.rungs), folder=folder)


def _read_prior_run(
    path: Path, folder: RunFolder, config: SearchConfig, genes: Sequence[Choice], neutral: Mapping[str, Value]
) -> PriorRun:
    earlier = RunFolder.open_existing(path)
    theirs = earlier.config
    if path.resolve() == folder.path.resolve():
        raise ConfigError(f"warm_start must name another run, but {path} is this one; repeat its command to go on")
    if theirs.subject != config.subject:
        raise ConfigError(
            f"warm_start must name runs that searched {config.subject}, but {path} searched {theirs.subject}"
        )
    digests = [_read_json(each, "data.json").get("digest") for each in (earlier, folder)]
    if digests[0] != digests[1]:
        raise ConfigError(
            f"warm_start must name runs on the same data, but {path} was started with {theirs.search.dataset} of digest "
            f"{str(digests[0])[:12]}, and this run's {config.search.dataset} has {str(digests[1])[:12]}"
        )
    records = {r.key: r for r in latest_by_key(earlier.records(), "search") if r.latency is not None}
    picks = {key: picked for key, picked in picks_by_key(earlier).items() if key in records}
    fitted = {key: full for key, p in picks.items() if (full := _fit_to_genes(p, genes, neutral)) is not None}
    complete = [r for r in records.values() if r.status == "complete" and r.key in fitted]
    if not complete:
        raise ConfigError(f"warm_start must name runs that have evaluated something, but {path} has no complete record")
    members = [r for r in search_front(complete, config.search.objectives) if r.key in fitted]
    chosen = spread(
        objective_values(members, config.search.objectives),
        [OBJECTIVES[o] for o in config.search.objectives],
        MAX_INITIAL_PICKS,
    )
    front = [members[i] for i in sorted(chosen)]
    here, there = (_read_json(each, "target.json") for each in (folder, earlier))
    same = all(here.get(name) == there.get(name) for name in TARGET_FACTS)
    told = {r.key: r for r in [*members, *reversed(complete)] if r.rung >= len(theirs.training.rungs)}
    looks = first_rung_accuracies(earlier, theirs.search.objectives)
    stopped = [r.key for r in reversed(complete) if r.key in looks and r.rung < len(theirs.training.rungs)][
        :MAX_PRIOR_TRIALS
    ]
    return PriorRun(
        path=str(path), target=theirs.search.target, same_target=same,
        told=tuple((fitted[r.key], r.key, r.objective("accuracy") or 0.0) for r in [*told.values()][:MAX_PRIOR_TRIALS]),
        records=tuple(records.values()) if same else (), front=tuple(fitted[r.key] for r in front),
        members={r.key: r.trial for r in front}, stopped={key: fitted[key] for key in stopped},
        looks={key: looks[key] for key in (*[*told][:MAX_PRIOR_TRIALS], *stopped) if key in looks},
        same_look=math.isclose(theirs.training.epochs * theirs.training.rungs[0], config.training.epochs * config.training.rungs[0]),
    )  # fmt: skip


def _read_json(folder: RunFolder, name: str) -> dict[str, Any]:
    file = folder.path / name
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def _fit_to_genes(
    picked: Mapping[str, Value], genes: Sequence[Choice], neutral: Mapping[str, Value]
) -> dict[str, Value] | None:
    """A pick in these genes: each value its nearest option, missing ones neutral; None where a word has no place."""
    full = {**neutral, **picked}
    found: dict[str, Value] = {}
    for gene in genes:
        if gene.name in full:
            value: Value | None = _nearest_option(full[gene.name], gene.options)
        else:
            value = gene.options[0] if len(gene.options) == 1 else None
        if value is None:
            return None
        found[gene.name] = value
    return found


def _nearest_option(value: Value, options: Sequence[Value]) -> Value | None:
    """The option that is the value; else the nearest number by ratio, of two the larger: 16 bits are more like 32."""
    if value in options:
        return value
    numbers = [o for o in options if not isinstance(o, str)]
    if isinstance(value, str) or len(numbers) < len(options):
        return None

    def apart(option: int | float) -> float:
        low, high = sorted((float(option), float(value)))
        return high / low if low > 0 else 1.0 + high - low

    return min(sorted(numbers, reverse=True), key=apart)
