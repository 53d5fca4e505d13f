"""Which genes matter: each one's share in what makes good values, by PED-ANOVA.

Source: Watanabe et al. 2023, https://arxiv.org/abs/2304.10255; the computation is Optuna's.
"""

import logging
import warnings
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.results.front import maximize_flags

logger = logging.getLogger(__name__)

MIN_TRIALS = 8


def gene_importance(study: optuna.Study, objectives: Sequence[str]) -> dict[str, dict[str, float]]:
    """Objective to gene to its share, 0..1; empty with few trials, and without an objective that says nothing.

    Args:
        study: whose trials have the objectives' values, in this order.
        objectives: their words.
    """
    done = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if len(done) < MIN_TRIALS:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = {}
    for index, (objective, maximize) in enumerate(zip(objectives, maximize_flags(objectives), strict=True)):
        sign = -1 if maximize else 1  # of a target the evaluator takes the low values for good

        def value(trial: FrozenTrial, index: int = index, sign: int = sign) -> float:
            return sign * float(trial.values[index])

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # on the sign, and on too few distinct values
                found[objective] = optuna.importance.get_param_importances(study, evaluator=evaluator, target=value)
        except (ValueError, RuntimeError) as error:  # every gene constant, or too few distinct values
            logger.info("no importance for %s: %s", objective, error)
    return found
