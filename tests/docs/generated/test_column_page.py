"""Page of the columns: each column of pareto.csv and each field of a record, once."""

import dataclasses
from typing import Any

import pytest

from docs.generated import column_page
from nas.results.front_table import COLUMNS
from nas.results.record import Record


def test_every_column_and_field_is_described() -> None:
    page = column_page.column_page()
    csv, _, records = page.partition("## records.jsonl")
    assert [line.split("`")[1] for line in csv.splitlines() if line.startswith("| `")] == list(COLUMNS)
    for field in dataclasses.fields(Record):
        assert f"| `{field.name}` |" in records


def test_a_new_column_without_a_description_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    columns: tuple[Any, ...] = (*COLUMNS, "smell")
    monkeypatch.setattr(column_page, "COLUMNS", columns)
    with pytest.raises(KeyError, match="smell"):
        column_page.column_page()
