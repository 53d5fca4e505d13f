"""Table of the front from records made by hand: rows, pareto.csv and pareto.json."""

import csv
import json
from pathlib import Path

import pytest

from nas.results.front_table import COLUMNS, table_rows, write_front
from tests.fake_runs import a_run, some_latency, some_record

BOTH = ("accuracy", "latency")


def test_a_row_has_the_provenance_of_its_latency() -> None:
    (row,) = table_rows([some_record(3, 0.5, 4.0)])
    assert tuple(row) == COLUMNS
    assert (row["latency_kind"], row["latency_ms"], row["latency_device"]) == ("predicted", 4.0, "Jetson Orin Nano")
    assert row["host_latency_ms"] == pytest.approx(0.97)  # 5th percentile of a median of 1 ms
    assert row["bits"] == "stem:32 stage1:32 stage2:8 head:32"
    assert row["sparsity"] == 0.0


def test_a_measured_latency_is_also_the_host_latency() -> None:
    measured = some_record(1, 0.5, 4.0, host=None, latency=some_latency(4.0, kind="measured"))
    (row,) = table_rows([measured])
    assert row["host_latency_ms"] == pytest.approx(3.88)
    assert row["bits"] == "32"


def test_a_record_without_figures_has_empty_cells() -> None:
    (row,) = table_rows([some_record(7, None, None, status="failed", size_bytes=None)])
    assert row["accuracy"] is row["latency_ms"] is row["size_bytes"] is row["host_latency_ms"] is None


def test_the_files_hold_the_front(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    table, details = write_front(folder, BOTH)
    with table.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [int(r["trial"]) for r in found] == [0, 1, 2]
    for row in found:
        assert float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"])
        assert float(row["latency_low_ms"]) <= float(row["latency_ms"]) <= float(row["latency_high_ms"])
    more = json.loads(details.read_text())
    assert more["verified"] is True
    assert more["front"][0]["candidate"]["architecture"] == {"depth": 0, "input": 48}
    assert set(more["front"][0]["score"]["recall"]) == {"angry", "happy", "sad"}
    assert more["fallen"][0]["by_trial"] == 2
    assert [r["trial"] for r in more["search_front"]] == [0, 1, 2, 5]


def test_no_text_of_the_table_is_a_formula(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[some_record(0, 0.5, 1.0, model="=cmd|' /C calc'!A0")])
    table, _ = write_front(folder, BOTH)
    with table.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["model"] == "'=cmd|' /C calc'!A0"
