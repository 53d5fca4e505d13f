"""The parts of the screened sampler against closed forms and slow twins."""

import itertools
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from nas.pareto import hypervolume
from nas.searcher.acquisition.encoding import MAX_LEVELS, GeneEncoding, as_bytes
from nas.searcher.acquisition.expected_improvement import ExpectedImprovement, Observations
from nas.searcher.acquisition.gaussian_process import (
    LENGTH_SCALES,
    LINEAR_SHARES,
    NOISE_VARIANCES,
    SMALL_MATRIX_ROWS,
    _invert_lower_triangular,
    _kernel,
    _select_hyperparameters,
    fit,
)
from nas.searcher.acquisition.hypervolume_improvement import hypervolume_improvement, non_dominated_boxes
from nas.searcher.acquisition.low_fidelity import MAX_OBSERVATIONS, LowFidelityFeatures
from nas.searcher.acquisition.trial_history import TrialOutcomes
from nas.searcher.samplers.screened import ScreenedSampler


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 4), n=st.integers(0, 7), seed=st.integers(0, 10_000), ties=st.booleans())
def test_a_gain_is_what_the_hypervolume_grows_by(m: int, n: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    front, points = rng.random((n, m)), rng.random((6, m)) * 1.4 - 0.2
    if ties:
        front, points = front.round(1), points.round(1)
    reference = np.full(m, 0.1)
    up = [True] * m
    before = hypervolume(front, reference.tolist(), up)
    grown = [hypervolume(np.vstack([front, p]), reference.tolist(), up) - before for p in points]
    np.testing.assert_allclose(
        hypervolume_improvement(points, non_dominated_boxes(front, reference)), grown, atol=1e-12
    )


def test_gains_of_many_points_keep_their_shape_and_unknown_ones_gain_nothing() -> None:
    boxes = non_dominated_boxes(np.array([[1.0, 2.0], [2.0, 1.0]]), np.zeros(2))
    points = np.array([[[2.0, 2.0], [3.0, 3.0]], [[1.0, 1.0], [np.nan, 9.0]]])
    np.testing.assert_allclose(hypervolume_improvement(points, boxes), [[1.0, 6.0], [0.0, 0.0]])


SPACE: dict[str, BaseDistribution] = {
    "word": CategoricalDistribution(("a", "b", "c")),
    "number": CategoricalDistribution((32, 8, 16)),
    "truth": CategoricalDistribution((True, False)),
    "one": CategoricalDistribution((48,)),
    "step": FloatDistribution(-1.0, 1.0, step=0.1),
    "log": FloatDistribution(1e-4, 1.0, log=True),
    "int": IntDistribution(1, 9, step=2),
    "wide": IntDistribution(1, 100_000, log=True),
    "many": IntDistribution(0, 999),
}


def test_codes_and_picks_are_each_others_inverse() -> None:
    genes = GeneEncoding(SPACE)
    codes = genes.sample(200, np.random.default_rng(0))
    picks = genes.decode(codes)
    for row, picked in zip(codes, picks, strict=True):
        assert (genes.encode(picked) == row).all()
        for name, distribution in SPACE.items():
            assert distribution._contains(distribution.to_internal_repr(picked[name]))
            assert type(picked[name]) is not np.float64
    assert genes.encode({"word": "a"}) is None
    assert genes.encode({**picks[0], "word": "z"}) is None


def test_a_table_of_codes_is_what_each_pick_has() -> None:
    genes = GeneEncoding(SPACE)
    picks: list[dict[str, Any]] = genes.decode(genes.sample(60, np.random.default_rng(1)))
    picks[3] |= {"step": picks[3]["step"] + 1e-14, "log": picks[3]["log"] * 1.01}  # rounded, and between two levels
    picks[5] = {"word": "a"}
    picks[7] |= {"word": "z"}
    codes, rows = genes.encode_all(picks)
    single = {i: found for i, picked in enumerate(picks) if (found := genes.encode(picked)) is not None}
    assert rows.tolist() == list(single) == [i for i in range(60) if i not in (5, 7)]
    np.testing.assert_array_equal(codes, list(single.values()))
    assert as_bytes(codes) == [found.tobytes() for found in single.values()]
    for short in (genes.encode_all([]), genes.encode_all(picks[5:6])):
        assert (short[0].shape, short[1].shape) == ((0, len(SPACE)), (0,))
    one = GeneEncoding({"word": SPACE["word"]})
    assert one.encode_all([{"word": "c"}, {}])[0].tolist() == [[2]]


def test_ranges_have_their_own_options_and_wide_ones_a_grid() -> None:
    sizes = dict(zip(SPACE, GeneEncoding(SPACE).n_options.tolist(), strict=True))
    assert (sizes["word"], sizes["one"], sizes["step"], sizes["int"]) == (3, 1, 21, 5)
    assert (sizes["log"], sizes["many"]) == (MAX_LEVELS, MAX_LEVELS)
    assert 32 < sizes["wide"] <= MAX_LEVELS


def test_numbers_have_an_order_in_the_features_and_words_have_none() -> None:
    genes = GeneEncoding({"n": SPACE["number"], "w": SPACE["word"]})
    f = genes.features(np.array([[1, 0], [2, 1], [0, 2]]))  # 8 a, 16 b, 32 c
    np.testing.assert_allclose(f[:, 0], [0, 0.5, 1])
    words = f[:, 4:]
    distances = ((words[:, None] - words[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances, 1 - np.eye(3))


def test_every_point_of_a_small_space_is_listed_once() -> None:
    genes = GeneEncoding({"a": IntDistribution(0, 2), "b": CategoricalDistribution(("x", "y"))})
    assert genes.n_points == 6
    assert len({tuple(row) for row in genes.all_codes().tolist()}) == 6


def test_a_guess_knows_what_it_saw_and_doubts_what_it_did_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((60, 5))
    y = 3 * x[:, 0] - 2 * x[:, 1] + x[:, 2] * x[:, 3]
    new = rng.random((200, 5))
    truth = 3 * new[:, 0] - 2 * new[:, 1] + new[:, 2] * new[:, 3]
    seen, unseen, far = (fit(x, y)(z) for z in (x, new, new + 3))
    assert np.corrcoef(unseen.mean, truth)[0, 1] > 0.98
    assert np.abs(seen.mean - y).mean() < np.abs(unseen.mean - truth).mean()
    assert seen.std.mean() < unseen.std.mean() < far.std.mean()
    inside = np.abs(unseen.mean - truth) < 2 * unseen.std
    assert inside.mean() > 0.8


def test_a_guess_at_noise_is_the_mean_and_at_a_constant_the_constant() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.random((80, 4)), rng.normal(size=80)
    noise = fit(x, y)(rng.random((50, 4)))
    assert np.abs(noise.mean).max() < 1.2
    constant = fit(x, np.full(80, 7.0))(x[:3])
    assert constant.mean.tolist() == [7.0] * 3
    assert constant.std.tolist() == [0.0] * 3


@pytest.mark.parametrize("n", [2, 3])
def test_two_examples_are_enough(n: int) -> None:
    found = fit(np.eye(3)[:n], np.arange(n, dtype=float))(np.eye(3))
    assert np.isfinite(found.mean).all()
    assert np.isfinite(found.std).all()


def test_settings_have_the_largest_likelihood_of_the_grid() -> None:
    rng = np.random.default_rng(3)
    for noise in (0.01, 0.5):
        x = rng.random((30, 3))
        y = np.sin(4 * x[:, 0]) + x[:, 1] + rng.normal(0, noise, 30)
        y = (y - y.mean()) / y.std()
        found = {}
        for length, share, level in itertools.product(LENGTH_SCALES, LINEAR_SHARES, NOISE_VARIANCES):
            covariance = _kernel(x, x, length, share) + level * np.eye(30)
            amplitude = float(y @ np.linalg.solve(covariance, y)) / 30
            likelihood = -0.5 * (30 * np.log(amplitude) + np.linalg.slogdet(covariance).logabsdet)
            found[length, share, level] = (likelihood, amplitude)
        best = max(found, key=lambda setting: found[setting][0])
        *setting, amplitude = _select_hyperparameters(x, y)
        assert tuple(setting) == best
        assert amplitude == pytest.approx(found[best][1], rel=1e-9)


@pytest.mark.parametrize("n", [1, SMALL_MATRIX_ROWS, SMALL_MATRIX_ROWS + 1, 3 * SMALL_MATRIX_ROWS + 1])
def test_a_triangular_matrix_is_inverted_by_halves(n: int) -> None:
    lower = np.tril(np.random.default_rng(n).normal(size=(n, n)), -1) / n + np.eye(n)
    np.testing.assert_allclose(_invert_lower_triangular(lower) @ lower, np.eye(n), atol=1e-12)


def test_what_is_left_out_is_what_a_guesser_says_that_never_saw_it() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((40, 3))
    y = x[:, 0] + 0.5 * x[:, 1] ** 2 + rng.normal(0, 0.1, 40)
    found = fit(x, y)
    seen = found(x).mean
    alone = np.array([fit(np.delete(x, i, 0), np.delete(y, i))(x[i : i + 1]).mean[0] for i in range(40)])
    assert np.corrcoef(found.loo_mean - y, alone - y)[0, 1] > 0.9  # weights of features are learned anew by the twin
    assert np.abs(seen - y).mean() < np.abs(found.loo_mean - y).mean()
    assert fit(x, np.full(40, 3.0)).loo_mean.tolist() == [3.0] * 40


def test_looks_tell_of_candidates_that_nobody_looked_at() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((90, 4))
    truth = x @ [1.0, -1.0, 0.5, 0.0]
    looks = np.stack([np.where(np.arange(90) < 60, truth, np.nan), np.full(90, np.nan)], axis=1)
    found = LowFidelityFeatures(x, looks)
    assert found.train_features.shape == (90, 1)
    assert np.corrcoef(found.train_features[:, 0], truth)[0, 1] > 0.98
    np.testing.assert_allclose(found(x[60:]), found.train_features[60:])
    assert LowFidelityFeatures(x[:4], looks[:4])(x).shape == (90, 0)  # too few to learn from


def rightness(seed: int, *, looked: bool, elsewhere: bool = False) -> float:
    """Correlation of the worth of 300 candidates with what they would gain; 8 of 60 others were evaluated.

    The 52 others were stopped at a look, in this search or in another.
    """
    rng = np.random.default_rng(seed)
    genes, new = rng.random((60, 5)), rng.random((300, 5))
    truth, new_truth = (np.stack([np.sin(3 * g[:, 0]) + g[:, 1] * g[:, 2], -g[:, 3]], axis=1) for g in (genes, new))
    done, nobody, nothing = np.arange(60) < 8, np.zeros(60, dtype=bool), np.full((60, 2), np.nan)
    examples = Observations(
        known_objectives=truth * [np.nan, 1.0], gene_features=genes, candidate_features=np.empty((60, 0)),
        outcomes=TrialOutcomes(
            values=np.where(done[:, None], truth, np.nan), is_feasible=done, is_infeasible=nobody,
            is_prior=~done if elsewhere else nobody, is_low_fidelity_only=nobody if elsewhere else ~done,
            low_fidelity_values=(10 * truth + 500) * [1.0, np.nan] if looked else nothing,
        ),
    )  # fmt: skip
    worth = ExpectedImprovement(examples)(
        new_truth * [np.nan, 1.0], new, np.empty((300, 0)), log_std=np.zeros((300, 2))
    )
    low = truth[done].min(axis=0) - 0.1 * np.ptp(truth[done], axis=0)
    return float(np.corrcoef(worth, hypervolume_improvement(new_truth, non_dominated_boxes(truth[done], low)))[0, 1])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_looks_sharpen_the_worth_of_candidates_and_are_on_no_front(elsewhere: bool) -> None:
    with_looks, without = (
        np.mean([rightness(seed, looked=looked, elsewhere=elsewhere) for seed in range(4)]) for looked in (True, False)
    )
    assert with_looks > without + 0.2


def test_of_many_looks_some_are_learned_from_and_the_others_guessed() -> None:
    rng = np.random.default_rng(4)
    x = rng.random((MAX_OBSERVATIONS + 60, 3))
    truth = x @ [1.0, -1.0, 0.5]
    found = LowFidelityFeatures(x, truth[:, None]).train_features[:, 0]
    assert np.corrcoef(found, truth)[0, 1] > 0.99


def test_looks_of_another_search_are_turned_as_its_values_are() -> None:
    told = ([{"a": 1, "b": 2}, {"a": 99}], [[5.0, np.nan], [1.0, 1.0]], [[4.0, 3.0], [1.0, 1.0]])
    space: dict[str, BaseDistribution] = {"a": IntDistribution(0, 9), "b": IntDistribution(0, 9)}
    study = optuna.create_study(directions=["maximize", "minimize"])
    found = ScreenedSampler(space=space, prior_trials=lambda: told)._encode_prior_trials(study, GeneEncoding(space))
    np.testing.assert_array_equal(found.outcomes.values, [[5.0, np.nan]])
    np.testing.assert_array_equal(found.outcomes.low_fidelity_values, [[4.0, -3.0]])
    short = ScreenedSampler(space=space, prior_trials=lambda: told[:2])._encode_prior_trials(study, GeneEncoding(space))
    assert np.isnan(short.outcomes.low_fidelity_values).all()
    wrong = ScreenedSampler(space=space, prior_trials=lambda: (*told[:2], [[1.0]]))
    with pytest.raises(ValueError, match="low-fidelity values of prior_trials must be an array"):
        wrong._encode_prior_trials(study, GeneEncoding(space))


def test_a_trial_says_whether_it_was_only_looked_at() -> None:
    space: dict[str, BaseDistribution] = {"a": IntDistribution(0, 9), "b": IntDistribution(0, 9)}
    study = optuna.create_study(directions=["maximize", "minimize"])
    for i in range(4):
        attributes: dict[str, Any] = {} if i == 0 else {"look": [float(i), None], "look_only": i > 1}
        study.add_trial(
            create_trial(params={"a": i, "b": i}, distributions=space, values=[1.0, 2.0], user_attrs=attributes)
        )
    sampler = ScreenedSampler(seed=0, space=space)
    history = sampler._trial_history(study, study.ask()._get_latest_trial(), sampler._cache.table_of(space))
    assert history.outcomes.is_feasible.tolist() == [True, True, False, False]
    assert history.outcomes.is_low_fidelity_only.tolist() == [False, False, True, True]
    assert not history.outcomes.is_infeasible.any()
    np.testing.assert_array_equal(history.outcomes.low_fidelity_values[:, 0], [np.nan, 1.0, 2.0, 3.0])
    assert np.isnan(history.outcomes.values[2:]).all()
