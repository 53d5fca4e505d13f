"""Screened sampler: Optuna's own test kit, and promises beyond the contract of all samplers."""

import doctest
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler

from nas.pareto import hypervolume
from nas.searcher.acquisition.encoding import GeneEncoding
from nas.searcher.samplers import screened
from nas.searcher.samplers.screened import ScreenedSampler
from tests.searcher.samplers.small_search import SPACE, Params, a_study, accuracy, cheap, go_on, latency, names

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from optuna.testing.pytest_samplers import (
        BasicSamplerTestCase,
        MultiObjectiveSamplerTestCase,
        RelativeSamplerTestCase,
    )


class TestOptunaKit(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: ScreenedSampler(seed=1, n_startup_trials=3)


def test_the_example_of_the_docstring_runs() -> None:
    results = doctest.testmod(screened, optionflags=doctest.ELLIPSIS)
    assert results.attempted > 5
    assert results.failed == 0


def test_no_params_are_repeated_until_the_space_is_exhausted(caplog: pytest.LogCaptureFixture) -> None:
    space: dict[str, BaseDistribution] = {"a": IntDistribution(0, 4), "b": CategoricalDistribution(("x", "y", "z"))}
    study = optuna.create_study(
        directions=["minimize"] * 2, sampler=ScreenedSampler(seed=0, n_startup_trials=4, space=space)
    )
    for _ in range(15):
        trial = study.ask(space)
        study.tell(trial, [trial.params["a"], (trial.params["a"] - 2) ** 2 + ord(trial.params["b"])])
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == 15
    assert "every point" not in caplog.text
    study.ask(space)
    assert "every point of the space has been proposed" in caplog.text


def test_it_needs_fewer_trials_than_random_search() -> None:
    def volume(sampler: BaseSampler) -> float:
        study = a_study(sampler)
        go_on(study, 40)
        return hypervolume([t.values for t in study.trials], [0.4, 60.0], [True, False])

    informed = np.mean([volume(ScreenedSampler(seed=s, known_objectives=cheap, space=SPACE)) for s in range(2)])
    blind = np.mean([volume(ScreenedSampler(seed=s, space=SPACE)) for s in range(2)])
    chance = np.mean([volume(optuna.samplers.RandomSampler(seed=s)) for s in range(6)])
    assert informed > chance
    assert blind > chance


def test_known_objectives_are_exact() -> None:
    """With all objectives known, each proposal has the largest true hypervolume improvement."""
    space = {**SPACE, "width": IntDistribution(8, 32, step=8)}
    points = GeneEncoding(space).decode(GeneEncoding(space).all_codes())
    known = np.array([[accuracy(p), latency(p)] for p in points])
    value_of = dict(zip(names(points), known, strict=True))

    def all_known(params_list: Sequence[Params]) -> np.ndarray:
        return np.array([value_of[n] for n in names(params_list)])

    study = a_study(ScreenedSampler(seed=0, known_objectives=all_known, space=space))
    asked: list[Any] = []
    for number in range(18):
        trial = study.ask(space)
        mine = value_of[names([trial.params])[0]]
        if number >= 10:
            old = np.array(asked)
            worst = [
                *(old.min(axis=0) - 0.1 * np.ptp(old, axis=0))[:1],
                *(old.max(axis=0) + 0.1 * np.ptp(old, axis=0))[1:],
            ]
            grown = [hypervolume(np.vstack([old, p]), worst, [True, False]) for p in [mine, *known]]
            assert grown[0] == pytest.approx(max(grown), rel=1e-9)
        asked.append(mine)
        study.tell(trial, mine.tolist())


def test_the_first_trial_is_the_optimum_of_the_known_objective() -> None:
    study = a_study(ScreenedSampler(seed=0, known_objectives=cheap, space=SPACE))
    first = study.ask(SPACE).params
    assert (first["op"], first["kernel"], first["depth"], first["width"], first["sparsity"]) == ("skip", 3, 1, 8, 0.75)


def test_params_that_are_not_allowed_are_never_proposed() -> None:
    def narrow(params_list: Sequence[Params]) -> np.ndarray:
        return np.array([p["width"] <= 32 for p in params_list])

    params_list = go_on(a_study(ScreenedSampler(seed=0, allowed=narrow, space=SPACE)), 30)
    assert all(p["width"] <= 32 for p in params_list)


def test_constraints_are_learned() -> None:
    study = a_study(ScreenedSampler(seed=0, known_objectives=cheap, space=SPACE))
    for _ in range(50):
        trial = study.ask(SPACE)
        broken = trial.params["op"] == "conv"
        trial.set_constraint("no_conv", float(broken))
        study.tell(trial, [0.0 if broken else accuracy(trial.params), latency(trial.params)])
    convs = [t.params["op"] == "conv" for t in study.trials]
    assert any(convs[:10])
    assert np.mean(convs[20:]) < 0.2, "the share of chance is a third"


def test_params_of_equal_identity_are_proposed_once() -> None:
    """Sparsity has no effect where the operation is a skip."""

    def identity(params_list: Sequence[Params]) -> list[tuple[Any, ...]]:
        return [tuple((n, p[n]) for n in SPACE if p["op"] != "skip" or n == "depth") for p in params_list]

    params_list = go_on(a_study(ScreenedSampler(seed=0, known_objectives=cheap, identity=identity, space=SPACE)), 40)
    assert len(set(identity(params_list))) == 40


def test_three_objectives_are_searched_without_duplicates() -> None:
    study = optuna.create_study(
        directions=["maximize", "minimize", "minimize"], sampler=ScreenedSampler(seed=0, space=SPACE)
    )
    for _ in range(16):
        trial = study.ask(SPACE)
        study.tell(trial, [accuracy(trial.params), latency(trial.params), float(trial.params["width"])])
    asked = names([t.params for t in study.trials])
    assert len(set(asked)) == 16


@pytest.mark.parametrize("answer", [np.zeros((3, 1)), np.zeros(2)])
def test_a_wrong_shape_is_refused(answer: np.ndarray) -> None:
    study = a_study(ScreenedSampler(seed=0, known_objectives=lambda params_list: answer, space=SPACE))
    with pytest.raises(ValueError, match="known_objectives must be an array of shape"):
        study.ask(SPACE)
    study = a_study(ScreenedSampler(seed=0, allowed=lambda params_list: answer, space=SPACE))
    with pytest.raises(ValueError, match=r"allowed must return \d+ rows"):
        study.ask(SPACE)


def test_fewer_than_two_startup_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="n_startup_trials must be 2 or more"):
        ScreenedSampler(n_startup_trials=1)


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    directions=st.lists(st.sampled_from(["minimize", "maximize"]), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
def test_any_space_is_searched_without_duplicates(sizes: list[int], directions: list[str], seed: int) -> None:
    space: dict[str, BaseDistribution] = {f"g{i}": IntDistribution(0, n - 1) for i, n in enumerate(sizes)}
    trials = min(int(np.prod(sizes)), 12)
    study = optuna.create_study(
        directions=directions, sampler=ScreenedSampler(seed=seed, n_startup_trials=4, space=space)
    )
    noise = np.random.default_rng(seed)
    for _ in range(trials):
        trial = study.ask(space)
        trial.set_constraint("c", float(noise.random() - 0.7))
        study.tell(trial, noise.random(len(directions)).tolist())
    assert len({tuple(t.params.values()) for t in study.trials}) == trials


def test_params_that_most_likely_break_a_limit_are_not_proposed() -> None:
    def chance(params_list: Sequence[Params]) -> list[float]:
        return [1.0 if p["width"] <= 16 else 0.02 for p in params_list]

    params_list = go_on(a_study(ScreenedSampler(seed=0, known_objectives=cheap, feasibility=chance, space=SPACE)), 24)
    assert all(p["width"] <= 16 for p in params_list)


def test_where_no_params_are_likely_to_keep_a_limit_the_likeliest_are_proposed() -> None:
    def chance(params_list: Sequence[Params]) -> list[float]:
        return [1e-3 * (1 - p["sparsity"]) / p["width"] for p in params_list]

    params = go_on(a_study(ScreenedSampler(seed=0, known_objectives=cheap, feasibility=chance, space=SPACE)), 1)[0]
    assert (params["width"], params["sparsity"]) == (8, 0.0)


def test_prior_trials_speed_up_the_search() -> None:
    """Accuracies of 60 points from an earlier search give a larger hypervolume after 12 trials."""
    rng = np.random.default_rng(0)
    params_list = GeneEncoding(SPACE).decode(GeneEncoding(SPACE).sample(60, rng))
    values = [[accuracy(p), np.nan] for p in params_list]

    def volume(seed: int, **more: Any) -> float:
        study = a_study(ScreenedSampler(seed=seed, known_objectives=cheap, space=SPACE, **more))
        go_on(study, 12)
        return hypervolume([t.values for t in study.trials], [0.4, 60.0], [True, False])

    warm = [volume(seed, prior_trials=lambda: (params_list, values)) for seed in range(4)]
    cold = [volume(seed) for seed in range(4)]
    assert np.mean(warm) > np.mean(cold)


def test_prior_trials_outside_the_space_are_ignored() -> None:
    foreign = ([{"op": "attention"}, {"nothing": 1}], [[0.5, 1.0], [0.6, 2.0]])
    study = a_study(ScreenedSampler(seed=0, known_objectives=cheap, space=SPACE, prior_trials=lambda: foreign))
    assert len(go_on(study, 12)) == 12


def test_a_smaller_pool_proposes_other_params_without_duplicates() -> None:
    whole = go_on(a_study(ScreenedSampler(seed=0, known_objectives=cheap, space=SPACE)), 16)
    less = go_on(a_study(ScreenedSampler(seed=0, known_objectives=cheap, space=SPACE, pool_scale=0.2)), 16)
    assert less != whole
    assert len(set(names(less))) == 16
    with pytest.raises(ValueError, match="pool_scale must be positive, but got 0"):
        ScreenedSampler(pool_scale=0)
