"""Small search problem: five genes, accuracy and latency in closed form, and the latency known beforehand."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler

SPACE: dict[str, BaseDistribution] = {
    "op": CategoricalDistribution(("conv", "pool", "skip")),
    "kernel": CategoricalDistribution((3, 5, 9)),
    "width": IntDistribution(8, 64, step=8),
    "sparsity": FloatDistribution(0.0, 0.75, step=0.25),
    "depth": IntDistribution(1, 6),
}
Params = Mapping[str, Any]


def accuracy(params: Params) -> float:
    good = {"conv": 0.2, "pool": 0.05, "skip": 0.0}[params["op"]]
    return float(0.4 + good + 0.05 * np.log2(params["width"]) - 0.2 * params["sparsity"] + 0.03 * params["depth"])


def latency(params: Params) -> float:
    cost = {"conv": 1.0, "pool": 0.3, "skip": 0.05}[params["op"]] * params["kernel"]
    return float(0.1 + cost * params["depth"] * (params["width"] * (1 - params["sparsity"])) / 64)


def cheap(params_list: Sequence[Params]) -> np.ndarray:
    return np.array([[np.nan, latency(p)] for p in params_list])


def a_study(sampler: BaseSampler) -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


def go_on(study: optuna.Study, trials: int, make: Callable[[], BaseSampler] | None = None) -> list[dict[str, Any]]:
    for _ in range(trials):
        if make is not None:
            study.sampler = make()
        trial = study.ask(SPACE)
        study.tell(trial, [accuracy(trial.params), latency(trial.params)])
    return [t.params for t in study.trials]


def names(params_list: Sequence[Params]) -> list[tuple[Any, ...]]:
    return [tuple(p[n] for n in SPACE) for p in params_list]
