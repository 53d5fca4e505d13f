"""A search with one low-fidelity rung: every candidate is trained briefly, and promising ones are promoted.

The promotion rule is the search's own, multi-objective asynchronous successive halving (after Schmucker et al. 2021,
https://arxiv.org/abs/2106.12639): a candidate is promoted to full training unless an earlier one at the rung is at
least as good in both low-fidelity accuracy and latency. Asynchronous means that no cohort has to fill up first.

The rung costs `LOW_FIDELITY_COST` of a full training. A promoted candidate costs 1 more, since the tables' short
trainings have learning-rate schedules of their own and cannot be continued. Disconnected cells cost nothing, in the
comparison without a rung as well.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.samplers import BaseSampler

from benchmarks import _nb201
from benchmarks._replays import CpuTimer, hypervolume_curve
from nas.pareto import non_dominated
from nas.searcher.acquisition.base import LOW_FIDELITY, LOW_FIDELITY_ONLY

LOW_FIDELITY_COST = 12 / 200
"""Cost of the low-fidelity rung, in full trainings: 12 of 200 epochs."""
MAX_COST = 100
"""Cost in full trainings at which a search ends."""
HYPERVOLUME_GOALS = (0.95, 0.98, 0.99)
"""Shares of the true hypervolume whose cost is reported; the search ends once it has reached the last."""
NO_VALUES = np.full(2, np.nan)

FloatArray = npt.NDArray[np.float64]


def run_search(table: _nb201.Nb201Table, sampler: BaseSampler, *, trials: int, limit_s: float | None) -> dict[str, Any]:
    """Figures of a search with a low-fidelity rung.

    The search ends when it has reached all goals, has cost `MAX_COST`, has made `trials` proposals or has used
    `limit_s` seconds of processor time (None for no limit).

    A candidate that is not promoted gets its low-fidelity accuracy as its value, as in a real search. The trial's
    attributes mark it as low fidelity; Optuna's samplers ignore the mark, `ScreenedSampler` reads it.

    Returns:
        As `summarize`.
    """
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    rung_values: list[tuple[float, float]] = []
    costs: list[float] = []
    trained: list[int | None] = []
    done: list[int] = []
    clock = CpuTimer(limit_s)
    cost = 0.0
    while (
        cost < MAX_COST
        and len(costs) < trials
        and not clock.is_over
        and table.hypervolume_share(done) < HYPERVOLUME_GOALS[-1]
    ):
        trial = study.ask(_nb201.SPACE)
        cell = _nb201.cell_index(trial.params)
        feasible = bool(table.feasible[cell]) and bool(np.isfinite(table.low_fidelity_accuracy[cell]))
        values, promoted = table.ref_point, False
        if feasible:
            low_fidelity = (float(table.low_fidelity_accuracy[cell]), float(table.values[cell, 1]))
            promoted = low_fidelity not in rung_values and is_promoted(rung_values, low_fidelity)
            rung_values.append(low_fidelity)
            trial.set_user_attr(LOW_FIDELITY, [low_fidelity[0], None])
            trial.set_user_attr(LOW_FIDELITY_ONLY, not promoted)
            values = tuple(table.values[cell].tolist()) if promoted else low_fidelity
            cost += LOW_FIDELITY_COST + promoted
            done += [cell] * promoted
        trial.set_constraint("feasible", 0.0 if feasible else 1.0)
        study.tell(trial, list(values))
        costs.append(cost)
        trained.append(cell if promoted else None)
    return summarize(table, costs, trained)


def is_promoted(before: Sequence[tuple[float, float]], candidate: tuple[float, float]) -> bool:
    """Whether no earlier candidate is as good in low-fidelity accuracy (maximised) and latency (minimised)."""
    return bool(non_dominated([*before, candidate], _nb201.MAXIMIZE)[-1])


def summarize(table: _nb201.Nb201Table, costs: Sequence[float], trained: Sequence[int | None]) -> dict[str, Any]:
    """Costs at which a search reached the goals.

    Args:
        table: the problem.
        costs: spent after each trial, in full trainings.
        trained: the cell that each trial trained in full, or None where it trained none.

    Returns:
        `cost_to_reach` maps each goal to its cost, None if it was not reached; `reached` maps it to 1.0 or 0.0; `looks`
        is the number of trials, and `trained` the number of full trainings.
    """
    done = [cell for cell in trained if cell is not None]
    shares = hypervolume_curve(
        np.array([table.values[c] if c is not None else NO_VALUES for c in trained]), table.hypervolume_share_of
    )
    reached, spent = np.array(shares), np.array(costs)
    cost = {
        str(goal): float(spent[np.argmax(reached >= goal)]) if reached[-1] >= goal else None
        for goal in HYPERVOLUME_GOALS
    }
    return {
        "cost_to_reach": cost,
        "reached": {goal: float(value is not None) for goal, value in cost.items()},
        "looks": len(costs),
        "trained": len(done),
    }
