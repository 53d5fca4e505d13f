"""Gene importance: the share of each gene in what makes objective values good, by PED-ANOVA.

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
"""Complete trials below which no importance is computed."""


def gene_importance(study: optuna.Study, objectives: Sequence[str]) -> dict[str, dict[str, float]]:
    """Objective to gene to importance, 0..1, summing to 1 over the genes.

    Args:
        study: its trials hold the values of the objectives, in this order.
        objectives: objective words.

    Returns:
        Empty with fewer than `MIN_TRIALS` complete trials; without the objectives that have too few distinct values.
    """
    complete = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if len(complete) < MIN_TRIALS:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    importances = {}
    for index, (objective, maximize) in enumerate(zip(objectives, maximize_flags(objectives), strict=True)):
        sign = -1 if maximize else 1  # the evaluator takes low target values as good

        def target(trial: FrozenTrial, index: int = index, sign: int = sign) -> float:
            return sign * float(trial.values[index])

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about the sign, and about few distinct values
                importances[objective] = optuna.importance.get_param_importances(
                    study, evaluator=evaluator, target=target
                )
        except (ValueError, RuntimeError) as error:  # every gene constant, or too few distinct values
            logger.info("no gene importance for %s: %s", objective, error)
    return importances
