"""Expected hypervolume improvement against Monte Carlo estimates and true improvements."""

import numpy as np
import pytest

from nas.pareto import hypervolume
from nas.searcher.acquisition.expected_improvement import ExpectedImprovement, Observations
from nas.searcher.acquisition.hypervolume_improvement import hypervolume_improvement, non_dominated_boxes
from nas.searcher.acquisition.trial_history import TrialOutcomes


def correlation_with_truth(seed: int, *, low_fidelity: bool, is_prior: bool = False) -> float:
    """Correlation of the acquisition values of 300 candidates with their true improvements, after 60 trials.

    Of these 8 are evaluated, and 52 stopped at low fidelity, in this search or in another.
    """
    rng = np.random.default_rng(seed)
    genes, new = rng.random((60, 5)), rng.random((300, 5))
    truth, new_truth = (np.stack([np.sin(3 * g[:, 0]) + g[:, 1] * g[:, 2], -g[:, 3]], axis=1) for g in (genes, new))
    done, no, nan = np.arange(60) < 8, np.zeros(60, dtype=bool), np.full((60, 2), np.nan)
    observations = Observations(
        known_objectives=truth * [np.nan, 1.0], gene_features=genes, candidate_features=np.empty((60, 0)),
        outcomes=TrialOutcomes(
            values=np.where(done[:, None], truth, np.nan), is_feasible=done, is_infeasible=no,
            is_prior=~done if is_prior else no, is_low_fidelity_only=no if is_prior else ~done,
            low_fidelity_values=(10 * truth + 500) * [1.0, np.nan] if low_fidelity else nan,
        ),
    )  # fmt: skip
    values = ExpectedImprovement(observations)(
        new_truth * [np.nan, 1.0], new, np.empty((300, 0)), log_std=np.zeros((300, 2))
    )
    low = truth[done].min(axis=0) - 0.1 * np.ptp(truth[done], axis=0)
    return float(np.corrcoef(values, hypervolume_improvement(new_truth, non_dominated_boxes(truth[done], low)))[0, 1])


@pytest.mark.parametrize("is_prior", [False, True])
def test_low_fidelity_values_improve_the_ranking(is_prior: bool) -> None:
    with_values, without = (
        np.mean([correlation_with_truth(seed, low_fidelity=given, is_prior=is_prior) for seed in range(4)])
        for given in (True, False)
    )
    assert with_values > without + 0.2


def test_an_uncertain_known_objective_is_log_normal() -> None:
    """Against a Monte Carlo mean: both objectives are known, one of them with a standard deviation."""
    values, log_std = np.array([[-0.9, 2.0]]), np.array([[0.3, 0.0]])
    done = np.array([[-1.0, 1.0], [-0.5, 0.5]])
    none = np.zeros((2, 0))
    yes, no = np.ones(2, bool), np.zeros(2, bool)
    acquisition = ExpectedImprovement(
        Observations(
            known_objectives=done,
            gene_features=none,
            candidate_features=none,
            outcomes=TrialOutcomes(
                values=done,
                low_fidelity_values=np.full((2, 2), np.nan),
                is_feasible=yes,
                is_infeasible=no,
                is_low_fidelity_only=no,
                is_prior=no,
            ),
        )
    )
    uncertain = acquisition(values, none[:1], none[:1], log_std=log_std)
    exact = acquisition(values, none[:1], none[:1], log_std=np.zeros((1, 2)))
    scale, reference = np.array([0.5, 0.5]), np.array([-1.05, 0.45])

    def improvement(value: float) -> float:
        point = (np.array([value, 2.0]) - reference) / scale
        before = hypervolume((done - reference) / scale, [0.0, 0.0], [True, True])
        return hypervolume(np.vstack([(done - reference) / scale, point]), [0.0, 0.0], [True, True]) - before

    draws = -0.9 * np.exp(0.3 * np.random.default_rng(0).normal(size=20_000))
    assert exact[0] == pytest.approx(improvement(-0.9))
    assert uncertain[0] == pytest.approx(np.mean([improvement(v) for v in draws]), rel=0.05)
