"""The screened sampler among other trials: failed, running, enqueued, resumed, left by processes that died."""

import optuna
from optuna.trial import TrialState

from nas.searcher.samplers.screened import ScreenedSampler
from tests.searcher.samplers.small_search import SPACE, a_study, accuracy, cheap, go_on, latency, names


def test_failed_trials_are_not_repeated() -> None:
    study = a_study(ScreenedSampler(seed=0, space=SPACE))
    for i in range(30):
        trial = study.ask(SPACE)
        if i % 3 == 0:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [accuracy(trial.params), latency(trial.params)])
    asked = names([t.params for t in study.trials])
    assert len(set(asked)) == len(asked)


def test_running_trials_count() -> None:
    """Workers that ask at the same moment are not sent to the same place, nor to its nearest neighbours only."""
    study = a_study(ScreenedSampler(seed=0, known_objectives=cheap, space=SPACE))
    go_on(study, 20)
    running = [study.ask(SPACE) for _ in range(8)]
    asked = names([t.params for t in running])
    assert len(set(asked)) == 8
    assert not set(asked) & set(names([t.params for t in study.trials[:20]]))
    assert len({t.params["width"] for t in running} | {t.params["depth"] for t in running}) > 3


def test_a_running_trial_counts_before_its_genes_are_suggested() -> None:
    sampler = ScreenedSampler(seed=0, space=SPACE)
    study = a_study(sampler)
    go_on(study, 12)
    first = study.ask()
    picked = first.relative_params
    assert study.trials[-1].params == {}
    asked = [study.ask(SPACE).params for _ in range(6)]
    assert names([picked])[0] not in names(asked)


def test_a_fresh_sampler_for_each_trial_asks_the_same() -> None:
    whole = go_on(a_study(ScreenedSampler(seed=3, known_objectives=cheap)), 25)
    fresh = a_study(optuna.samplers.RandomSampler())
    assert go_on(fresh, 25, lambda: ScreenedSampler(seed=3, known_objectives=cheap)) == whole
    assert go_on(a_study(ScreenedSampler(seed=4, known_objectives=cheap)), 25) != whole


def test_resumed_in_the_middle_it_finds_the_same() -> None:
    whole = a_study(ScreenedSampler(seed=5, known_objectives=cheap))
    go_on(whole, 26)
    half = a_study(ScreenedSampler(seed=5, known_objectives=cheap))
    go_on(half, 13)
    resumed = a_study(ScreenedSampler(seed=5, known_objectives=cheap))
    resumed.add_trials(half.trials)
    go_on(resumed, 13)
    assert [t.params for t in resumed.trials] == [t.params for t in whole.trials]
    assert [t.values for t in resumed.best_trials] == [t.values for t in whole.best_trials]


def test_enqueued_genes_are_kept_and_the_others_chosen_around_them() -> None:
    study = a_study(ScreenedSampler(seed=0, known_objectives=cheap, space=SPACE))
    go_on(study, 15)
    done = study.trials[3].params
    study.enqueue_trial({n: done[n] for n in ("op", "kernel", "width", "sparsity")})
    trial = study.ask(SPACE)
    assert all(trial.params[n] == done[n] for n in ("op", "kernel", "width", "sparsity"))
    assert trial.params["depth"] != done["depth"]


def test_a_draw_that_a_dead_process_left_is_kept_whatever_was_told_since() -> None:
    study = a_study(ScreenedSampler(seed=0, known_objectives=cheap, space=SPACE))
    go_on(study, 12)
    left = study.ask()
    drawn = left.relative_params
    go_on(study, 2)
    again = optuna.trial.Trial(study, left._trial_id)
    assert {n: again._suggest(n, d) for n, d in SPACE.items()} == drawn
