"""A search with a cheap first look: who seems good after it is trained in full, all others are left at that.

The rule is the search's own, asynchronous successive halving with several objectives (after Schmucker et al. 2021,
https://arxiv.org/abs/2106.12639): a candidate goes on unless one that was looked at before it is as good in everything,
cheap accuracy and latency. No cohort is waited for.

A look costs `LOW_FIDELITY_COST` of a full training. A full training starts anew and costs 1 more, since the tables' short
trainings have learning rates of their own and cannot be continued. Disconnected cells cost nothing, here as without.
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
"""Cost of a first look in full trainings."""
MAX_COST = 100
"""Cost at which a search with first looks ends."""
HYPERVOLUME_GOALS = (0.95, 0.98, 0.99)
"""Shares of the true hypervolume whose cost is told; the search ends with the last."""
NO_VALUES = np.full(2, np.nan)

FloatArray = npt.NDArray[np.float64]


def run_search(table: _nb201.Nb201Table, sampler: BaseSampler, *, trials: int, limit_s: float | None) -> dict[str, Any]:
    """Figures of a search with first looks, until it reached all goals, has cost `MAX_COST` or `trials` are asked.

    Who is not trained in full is told with its cheap accuracy, as a search tells what it stopped early; that it is one
    stands in the trial's attributes, which Optuna's samplers do not read and ours does.
    """
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    seen: list[tuple[float, float]] = []
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
        values, full = table.ref_point, False
        if feasible:
            look = (float(table.low_fidelity_accuracy[cell]), float(table.values[cell, 1]))
            full = look not in seen and is_promoted(seen, look)
            seen.append(look)
            trial.set_user_attr(LOW_FIDELITY, [look[0], None])
            trial.set_user_attr(LOW_FIDELITY_ONLY, not full)
            values = tuple(table.values[cell].tolist()) if full else look
            cost += LOW_FIDELITY_COST + full
            done += [cell] * full
        trial.set_constraint("feasible", 0.0 if feasible else 1.0)
        study.tell(trial, list(values))
        costs.append(cost)
        trained.append(cell if full else None)
    return summarize(table, costs, trained)


def is_promoted(before: Sequence[tuple[float, float]], candidate: tuple[float, float]) -> bool:
    """Whether no look before mine is as good in cheap accuracy (more is better) and in latency (less is better)."""
    return bool(non_dominated([*before, candidate], _nb201.MAXIMIZE)[-1])


def summarize(table: _nb201.Nb201Table, costs: Sequence[float], trained: Sequence[int | None]) -> dict[str, Any]:
    """What a search reached for its cost.

    Args:
        table: the problem.
        costs: spent after each trial, in full trainings.
        trained: the cell that each trial trained in full, None where it did not.

    Returns:
        `cost_to_reach`, by share of the hypervolume, None where it was not reached, and `reached`, 1 where it was;
        `looks`, all trials; `trained`, those trained in full.
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
        "reached": {goal: float(found is not None) for goal, found in cost.items()},
        "looks": len(costs),
        "trained": len(done),
    }
