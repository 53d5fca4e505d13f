"""The journal is read into the trials that Optuna's own classes read from it."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from nas.searcher.journal import FastJournalBackend, FastJournalStorage

SPACE: dict[str, BaseDistribution] = {
    "op": CategoricalDistribution(("conv", "skip", "pool")),
    "width": IntDistribution(8, 64, step=8),
    "share": FloatDistribution(0.0, 0.75, step=0.25),
}
PARAMS = {"op": "skip", "width": 16, "share": 0.5}
TRICKY = '"distributions":{"op":1},"params":{} \\ \u00e9\ud83d'


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with trials in every form, each state, and lines that Optuna ignores."""
    path = tmp_path / "journal.log"
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(study_name="a", storage=storage, directions=["maximize", "minimize"])
    study.set_user_attr("note", TRICKY)
    study.enqueue_trial({"op": "conv"})
    for number in range(4):  # parameter by parameter
        trial = study.ask()
        trial.suggest_categorical("op", ["conv", "skip", "pool"])
        trial.suggest_int("width", 8, 64, step=8)
        trial.set_user_attr("key", f"{TRICKY}{number}")
        trial.set_constraint("size", 1.0)
        if number < 3:
            study.tell(trial, [0.5, float(number)] if number else None, state=TrialState.FAIL if not number else None)
    for attributes in ({}, {"distributions": {"op": "x"}}, {"params": TRICKY}):  # all parameters in one line
        trial_id = storage.create_new_trial(
            study._study_id,
            create_trial(state=TrialState.RUNNING, params=PARAMS, distributions=SPACE, user_attrs=attributes),
        )
        storage.set_trial_user_attr(trial_id, "key", "k")
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.1, 0.2])
    study.add_trial(create_trial(params={"other": 1}, distributions={"other": IntDistribution(0, 3)}, values=[1, 2]))
    lines = [
        {"op_code": 5, "trial_id": 3, "param_name": "op", "param_value_internal": 0, "distribution":
         '{"name": "CategoricalDistribution", "attributes": {"choices": ["other"]}}'},
        {"op_code": 8, "trial_id": 1, "user_attr": {"key": "of a finished trial"}},
        {"op_code": 9, "trial_id": 99, "system_attr": {"of": "no trial"}},
    ]  # fmt: skip
    with path.open("a") as file:
        file.writelines(json.dumps(line | {"worker_id": "another"}) + "\n" for line in lines)
    return path


def _facts(storage: BaseStorage) -> list[Any]:
    trials = storage.get_all_trials(0, deepcopy=False)
    parts = [(t.number, t.state, t.params, t.distributions, t.user_attrs, t.system_attrs, t.values) for t in trials]
    times = [(t.datetime_start, t.datetime_complete, list(t.params)) for t in trials]
    return [storage.get_all_studies()[0].user_attrs, parts, times]


def _open_both(path: Path) -> tuple[JournalStorage, JournalStorage]:
    return FastJournalStorage(FastJournalBackend(str(path))), JournalStorage(JournalFileBackend(str(path)))


def test_trials_are_those_that_optuna_reads(journal: Path) -> None:
    fast, plain = _open_both(journal)
    assert _facts(fast) == _facts(plain)
    assert len(_facts(fast)[1]) == 8


def test_lines_after_the_first_reading_copy_the_trials(journal: Path) -> None:
    fast, plain = _open_both(journal)
    before = fast.get_trial(3)
    for storage in (fast, plain):
        storage.set_trial_user_attr(3, "by", "one of both")
    fast.set_trial_state_values(3, TrialState.COMPLETE, [1.0, 2.0])
    assert _facts(fast) == _facts(plain)
    assert "by" not in before.user_attrs
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        fast.set_trial_user_attr(3, "too", "late")


@pytest.mark.parametrize("end", [b'{"op_code":4,"worker', b"no json\n"])
def test_last_line_that_is_damaged_is_left_out(journal: Path, end: bytes) -> None:
    expected = _facts(_open_both(journal)[1])
    with journal.open("ab") as file:
        file.write(end)
    assert _facts(_open_both(journal)[0]) == expected


def test_damaged_line_in_the_middle_is_an_error(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes().replace(b'{"op_code":4,', b'{"op_code":4', 1))
    with pytest.raises(ValueError, match="Expecting"):
        FastJournalStorage(FastJournalBackend(str(journal)))


def test_trials_share_their_distributions(journal: Path) -> None:
    trials = _open_both(journal)[0].get_all_trials(0, deepcopy=False)
    assert trials[1].distributions["op"] is trials[2].distributions["op"] is trials[5].distributions["op"]
