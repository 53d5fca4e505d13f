"""What candidates have shown at their rungs, and who goes on: asynchronous promotion of the non-dominated.

Whoever reaches a rung is compared with those that were there before, and nobody is waited for, as in ASHA (Li et al.
2018, https://arxiv.org/abs/1810.05934), by dominance in place of a single figure, as in MO-ASHA (Schmucker et al. 2021,
https://arxiv.org/abs/2106.12639). Done differently here: no share of a rung goes on, but everyone whom no earlier one
equals or betters in everything.

    runs/NAME/rungs.jsonl    one line for each candidate and rung: key, rung, values in the order of `judged`
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
from nas.searcher.crash_guard import CrashGuard

RUNGS_FILE = "rungs.jsonl"
MIN_IMAGES_SEEN = 8000
"""Images that a net has seen before its accuracy says anything of it: after 4,800 of the drawn faces nets were still
at chance, after 9,570 of FER2013 their order was that of the next rung with 0.81 (benchmarks/rung_ranking.py)."""


def rung_objectives(objectives: Sequence[str]) -> list[str]:
    """The objectives that are known at a rung; energy is known of finished files only."""
    return [objective for objective in objectives if objective != "energy"]


def drop_uninformative_rungs(config: SearchConfig, images_per_epoch: int) -> SearchConfig:
    """The configuration without the default rungs that come too early, where an epoch has so many images.

    Rungs that somebody gave stay, and so do those of candidates that begin with trained weights.
    """
    if config.search.model is not None or "rungs" in config.fields_set:
        return config
    late = tuple(
        share
        for share in config.training.rungs
        if share * config.training.epochs * images_per_epoch >= MIN_IMAGES_SEEN or share == 1
    )
    return config.with_fields(rungs=late)


def promoter(folder: RunFolder, objectives: Sequence[str], candidate: Candidate, crash_guard: CrashGuard) -> Promote:
    """Decides for one candidate at each of its rungs; asked again after a restart, it gives the same answer.

    Args:
        folder: the run, where each candidate's figures at each rung are kept in the order of arrival.
        objectives: of the search.
        candidate: who asks.
        crash_guard: told of each rung that is reached.
    """
    known = rung_objectives(objectives)

    def promote(rung: int, accuracy: float, draft: UntrainedMetrics) -> bool:
        cohort = [line for line in folder.json_lines(RUNGS_FILE) if line["rung"] == rung]
        mine = next((line for line in cohort if line["key"] == candidate.key), None)
        if mine is None:
            found = {"accuracy": accuracy, "latency": draft.latency.latency_ms, "size": draft.size_bytes}
            mine = {"key": candidate.key, "rung": rung, "values": [found[o] for o in known]}
            folder.append_line(RUNGS_FILE, json.dumps(mine))
            crash_guard.record_progress()
        before = itertools.takewhile(lambda line: line["key"] != candidate.key, cohort)
        return bool(non_dominated([*(line["values"] for line in before), mine["values"]], maximize_flags(known))[-1])

    return promote


def first_rung_accuracies(folder: RunFolder, objectives: Sequence[str]) -> dict[str, float]:
    """Key to accuracy, 0..1, of the candidates that reached the first rung; none where accuracy is no objective."""
    if "accuracy" not in objectives:
        return {}
    lines = reversed(folder.json_lines(RUNGS_FILE))  # of two the first holds
    place = rung_objectives(objectives).index("accuracy")
    return {line["key"]: float(line["values"][place]) for line in lines if line["rung"] == 1}


def first_rung_accuracy(folder: RunFolder, objectives: Sequence[str], key: str) -> float | None:
    """Accuracy of a candidate at its first rung, 0..1; None where it reached none, or accuracy is no objective."""
    return first_rung_accuracies(folder, objectives).get(key)
