"""Whole searches with a protocol of folds: what each fold trains and tests, resuming, and what is refused."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nas.config.protocol import parse_protocol
from nas.data.base import FaceData, Split
from nas.data.protocols import divide
from nas.errors import ConfigError
from nas.results.fold_statistics import fold_statistics
from nas.results.run_folder import RunFolder
from tests.tiny_search import ASSEMBLY, FACES, SEARCH, Training, probabilities, searched, verified

FOLDS = {"trials": 2, "verify": 1, "protocol": "kfold:3"}


def with_subjects(split: Split | None, start: int) -> Split:
    assert split is not None
    return replace(split, subjects=start + np.arange(len(split)) % 2)


PEOPLE = replace(
    FACES, train=with_subjects(FACES.train, 0), val=with_subjects(FACES.val, 2), test=with_subjects(FACES.test, 4)
)


def divided(*_: Any, protocol: str = "official", fold: int = 0, **__: Any) -> FaceData:
    return divide(PEOPLE, parse_protocol(protocol), fold=fold)


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch, trainings: list[Training]) -> list[Split]:
    """The data are divided as the protocol says. Returns the training split of every training."""
    import nas.training.trainer as trainer

    monkeypatch.setattr(ASSEMBLY, "load_data", divided)
    monkeypatch.setattr(SEARCH, "load_data", divided)
    splits: list[Split] = []
    train = trainer.train

    def watched(net: Any, split: Split, **more: Any) -> Any:
        splits.append(split)
        return train(net, split, **more)

    monkeypatch.setattr(trainer, "train", watched)
    return splits


def test_the_front_is_trained_and_tested_in_each_fold_and_resumes(
    go: Callable[..., RunFolder], seen: list[Split]
) -> None:
    folder = go(**FOLDS)
    members = [r for r in verified(folder) if r.score is not None]
    assert len({r.key for r in members}) == 1
    assert sorted(r.seed for r in members) == [0, 1, 2]
    for record in members:
        data = divided(protocol="kfold:3", fold=record.seed)
        assert data.test is not None
        assert record.test is not None
        # The figures are those of the fold's own test part, by ONNX Runtime on the fold's own file.
        right = probabilities(folder.path / record.model, data.test.images).argmax(1) == data.test.labels
        assert (record.test.n, record.test.accuracy) == (len(data.test), pytest.approx(float(right.mean())))
        assert record.accuracy_split.startswith(f"val (selection split of fold {record.seed + 1} of 3")
        assert hashlib.sha256((folder.path / record.model).read_bytes()).hexdigest() == record.sha256
    assert sum(r.test.n for r in members if r.test) == len(FACES.train) + len(FACES.val) + 12
    (statistics,) = fold_statistics(folder.records(), 3)
    assert sorted(statistics.accuracies) == [0, 1, 2]
    assert len((folder.path / "folds.csv").read_text().splitlines()) == 1 + 3
    # The search and fold 0 train on fold 0's persons; no other fold's network has seen those that it is tested on.
    trained = [set(split.subjects.tolist()) for split in seen if split.subjects is not None]
    by_fold = [divided(protocol="kfold:3", fold=fold).train for fold in range(3)]
    people = [set(split.subjects.tolist()) for split in by_fold if split.subjects is not None]
    n_searched = len(searched(folder))
    assert trained[: n_searched + 1] == [people[0]] * (n_searched + 1)
    assert trained[-2:] == people[1:]
    n_trainings = len(seen)
    go(**FOLDS)
    assert len(seen) == n_trainings, "repeating the command trains nothing"
    with pytest.raises(ConfigError, match="protocol: 'kfold:3' there, 'kfold:4' asked"):
        go(**FOLDS | {"protocol": "kfold:4"})
    with pytest.raises(ConfigError, match="protocol: 'kfold:3' there, 'official' asked"):
        go(trials=2, verify=1)


def test_one_subject_at_a_time_is_left_out(go: Callable[..., RunFolder]) -> None:
    folder = go(**FOLDS | {"protocol": "loso", "trials": 1, "final_epochs": 0.2})
    assert sorted({r.seed for r in verified(folder)}) == list(range(6))
