"""Facts of the data set of a run, and whether it is synthetic."""

import json
from pathlib import Path

import pytest

from nas.results.data_facts import is_synthetic, read_data_facts
from tests.fake_runs import a_run


def test_facts_are_those_of_data_json(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    folder.write("data.json", json.dumps({"name": "fer2013", "train": 3}))
    assert read_data_facts(folder) == {"name": "fer2013", "train": 3}


def test_without_data_json_the_name_is_that_of_the_configuration(tmp_path: Path) -> None:
    assert read_data_facts(a_run(tmp_path, records=[])) == {"name": "synthetic"}


@pytest.mark.parametrize(
    ("facts", "dataset", "expected"),
    [
        ({"synthetic": True}, "csv", True),
        ({"synthetic": False}, "synthetic", False),
        ({}, "synthetic", True),
        ({"name": "fer2013"}, "fer2013", False),
    ],
)
def test_the_facts_decide_before_the_name(facts: dict[str, object], dataset: str, expected: bool) -> None:
    assert is_synthetic(facts, dataset) is expected
