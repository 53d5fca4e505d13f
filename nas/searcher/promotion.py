"""Promotion at rungs: a candidate trains on unless an earlier one at the same rung dominates it.

The rule is asynchronous: a candidate that reaches a rung is compared with those that reached it before and waits for no
other, as in ASHA (Li et al. 2018, https://arxiv.org/abs/1810.05934). The comparison is Pareto dominance instead of a
single objective, as in MO-ASHA (Schmucker et al. 2021, https://arxiv.org/abs/2106.12639). Unlike in both, no fixed
share of a rung is promoted: every candidate is, unless an earlier one is at least as good in all objectives.
"""

import itertools
import json
from collections.abc import Sequence

from nas.candidate import Candidate
from nas.config import SearchConfig
from nas.evaluation.untrained import UntrainedMetrics
from nas.pareto import non_dominated
from nas.pipeline import Promote
from nas.results.front import maximize_flags
from nas.results.run_folder import RunFolder
from nas.results.rungs import RUNGS_FILE, read_rungs, rung_objectives

MIN_IMAGES_SEEN = 8000
"""Training images before a rung's accuracy is informative.

After 4,800 images of the synthetic faces networks were still at chance; after 9,570 images of FER2013 the rank
correlation with the next rung was 0.81 (benchmarks/rung_ranking.py).
"""


def drop_uninformative_rungs(config: SearchConfig, images_per_epoch: int) -> SearchConfig:
    """The configuration without default rungs that end before `MIN_IMAGES_SEEN` training images.

    Rungs that the user gave stay, and so do those of a compression, whose candidates start from trained weights.

    Args:
        config: of the run.
        images_per_epoch: images in the training split.
    """
    if config.search.model is not None or "rungs" in config.fields_set:
        return config
    late = tuple(
        share
        for share in config.training.rungs
        if share * config.training.epochs * images_per_epoch >= MIN_IMAGES_SEEN or share == 1
    )
    return config.with_fields(rungs=late)


class RungResults:
    """The results of a run's candidates at their rungs, in order of arrival.

    Life: made once per search and shared by its parts. Each query first takes in the lines that were
    appended to rungs.jsonl since the last one. Of two lines of one candidate and rung the first holds.

    Args:
        folder: the run.
        objectives: objectives of the search, in order.
    """

    def __init__(self, folder: RunFolder, objectives: Sequence[str]) -> None:
        self._folder = folder
        self._objectives = rung_objectives(objectives)
        self._values_by_rung: dict[int, dict[str, list[float]]] = {}
        self._n_read = 0

    def promoter(self, candidate: Candidate) -> Promote:
        """The promotion rule for one candidate; after a restart it decides as it did before.

        Args:
            candidate: the candidate in training.
        """

        def promote(rung: int, accuracy: float, draft: UntrainedMetrics) -> bool:
            cohort = self._read_rung(rung)
            if candidate.key in cohort:
                # Decided before a restart: only those that came earlier count, so that the decision is the same.
                earlier = [cohort[key] for key in itertools.takewhile(lambda key: key != candidate.key, cohort)]
                values = cohort[candidate.key]
            else:
                figures = {"accuracy": accuracy, "latency": draft.latency.latency_ms, "size": draft.size_bytes}
                earlier, values = list(cohort.values()), [figures[o] for o in self._objectives]
                line = {"key": candidate.key, "rung": rung, "values": values}
                self._folder.append_line(RUNGS_FILE, json.dumps(line))
            # The candidate is last, and of equal points only the first is non-dominated: a tie is not promoted.
            return bool(non_dominated([*earlier, values], maximize_flags(self._objectives))[-1])

        return promote

    def first_rung_accuracies(self) -> dict[str, float]:
        """Key to accuracy, 0..1, of candidates that reached the first rung; empty where accuracy is no objective."""
        if "accuracy" not in self._objectives:
            return {}
        column = self._objectives.index("accuracy")
        return {key: float(values[column]) for key, values in self._read_rung(1).items()}

    def first_rung_accuracy(self, key: str) -> float | None:
        """Accuracy of a candidate at the first rung, 0..1; None where it has none, or accuracy is no objective."""
        values = self._read_rung(1).get(key)
        if values is None or "accuracy" not in self._objectives:
            return None
        return float(values[self._objectives.index("accuracy")])

    def _read_rung(self, rung: int) -> dict[str, list[float]]:
        """Key to values of the candidates that reached a rung, in order of arrival."""
        new = read_rungs(self._folder, self._objectives, first=self._n_read)
        for line in new:
            self._values_by_rung.setdefault(line["rung"], {}).setdefault(line["key"], line["values"])
        self._n_read += len(new)
        return self._values_by_rung.get(rung, {})
