"""Fixtures of the tests of the flow: quick trainings, evaluators, and the record of an undisturbed evaluation."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nas.data.base import FaceData
from nas.evaluation.evaluator import Evaluator
from nas.results.record import Record
from tests.tiny_evaluator import an_evaluator, evaluate
from tests.tiny_search import Training, make_quick


@pytest.fixture(autouse=True)
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    return make_quick(monkeypatch)


@pytest.fixture
def make(tmp_path: Path, faces: FaceData) -> Callable[..., Evaluator]:
    """A builder of evaluators: `make("place", data=faces, **fields of the configuration)`."""
    return lambda place="run", data=faces, **fields: an_evaluator(tmp_path / place, data, **fields)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, faces: FaceData) -> Record:
    """The record of the small candidate without any interruption."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return evaluate(an_evaluator(tmp_path_factory.mktemp("undisturbed"), faces))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_faces: Callable[..., FaceData]) -> Evaluator:
    """An evaluator that has trained the small candidate to a high accuracy, on data with a test split."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        objectives = ("accuracy", "latency", "size")  # a smaller file is a gain: INT8 need not be faster
        evaluator = an_evaluator(
            tmp_path_factory.mktemp("trained"), make_faces(test=24), epochs=30, objectives=objectives
        )
        evaluator.folder.append(evaluate(evaluator))
        return evaluator
