"""The terminal's tables, read back as text."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from nas.cli.render.tables import costs_table, front_table, recall_table
from nas.cli.render.terminal import show_costs
from tests.fake_baselines import some_baseline
from tests.fake_runs import a_run, some_latency, some_record

BASE = some_record(
    -1, 0.8, 4.0, phase="base", params=1000, nonzero_params=1000, size_bytes=4000, packed_bytes=3700, key_of=9
)
SMALL = some_record(3, 0.7, 0.5, params=500, nonzero_params=250, size_bytes=1000, packed_bytes=600)


def cells(table: Table) -> list[dict[str, str]]:
    """Each row as title to cell."""
    columns = {str(c.header): [str(cell) for cell in c.cells] for c in table.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_costs_hold_ratios_and_frames_of_the_classifier_alone() -> None:
    base, small = cells(costs_table([("a", BASE, BASE), ("a", BASE, SMALL)], show_run_name=False))
    assert (base["trial"], base["R"], base["R bytes"], base["frames/s"]) == ("base", "1.00", "1.00", "250")
    assert small["trial"] == "3"
    assert (small["weights"], small["not zero"], small["R"]) == ("500", "250", "4.00")
    assert (small["bytes"], small["packed"], small["R bytes"]) == ("1,000", "600", "4.00")
    assert (small["target ms"], small["frames/s"], small["accuracy"]) == ("0.5", "2,000", "70.0%")


def test_costs_of_several_runs_are_named_and_have_no_ratio_without_an_uncompressed_net() -> None:
    table = costs_table([("teacher", None, SMALL), ("student", BASE, BASE)], show_run_name=True)
    assert [(row["run"], row["R"]) for row in cells(table)] == [("teacher", "-"), ("student", "1.00")]
    assert "classifier alone" in str(table.title)


def test_unknown_figures_are_dashes() -> None:
    blank = some_record(1, None, None, params=None, nonzero_params=None, size_bytes=None, packed_bytes=None, macs=None)
    (row,) = cells(costs_table([("", None, blank)], show_run_name=False))
    assert set(row.values()) == {"1", "-"}


def test_memory_is_shown_where_a_record_knows_it() -> None:
    host = replace(some_latency(1.0, kind="measured"), resident_bytes=98_000_000)
    known = some_record(1, 0.5, 1.0, memory_bytes=343_072, host=host)
    old, new = cells(costs_table([("", None, SMALL), ("", None, known)], show_run_name=False))
    assert (old["kB memory"], old["MB process"]) == ("-", "-")
    assert (new["kB memory"], new["MB process"]) == ("343.1", "98")
    assert "kB memory" not in cells(costs_table([("", None, SMALL)], show_run_name=False))[0]


def test_recall_is_before_and_then_in_points() -> None:
    base, small = cells(recall_table(BASE, [SMALL]))
    assert base == {"trial": "base", "angry": "80%", "happy": "80%", "sad": "80%"}
    assert small == {"trial": "3", "angry": "-10.0", "happy": "-10.0", "sad": "-10.0"}


def test_the_uncompressed_net_is_the_first_row_of_a_front_and_fits_beside_rows_without_a_test_figure() -> None:
    tested = some_record(-1, 0.8, 4.0, phase="base", test=BASE.score)
    table = front_table([SMALL], search_records={}, title="search front", baseline=tested)
    assert [row["trial"] for row in cells(table)] == ["base", "3"]
    assert "test" not in cells(table)[0]


@pytest.mark.parametrize(
    ("is_wide", "name"), [(True, "published xception_of_2017"), (False, "published xception_of\u2026")]
)
def test_published_baselines_are_the_last_rows_of_a_front(is_wide: bool, name: str) -> None:
    published = [some_baseline(0.6, 3.0, name="xception_of_2017")]
    table = front_table([SMALL], search_records={"a": SMALL}, title="front", is_wide=is_wide, published=published)
    last = cells(table)[-1]
    assert last["trial"] == name
    assert (last["accuracy"], last["target ms"], last["host ms"], last["kB"]) == (
        "[bold]60.0%[/]", "[bold]3[/]", "0.728", "244.0",
    )  # fmt: skip
    assert (last["in search"], last["sparsity"], last.get("weights", "58,423")) == ("-", "-", "58,423")


@pytest.mark.parametrize("width", [80, 140])
def test_costs_are_never_cut_off(width: int, tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[some_record(0, 0.5, 1.0, params=109_239, nonzero_params=108_301, macs=10**7)])
    console = Console(width=width, record=True, file=io.StringIO())
    show_costs(console, [folder])
    text = console.export_text()
    assert "…" not in text
    for word in ("109,239", "108,301", "10.00", "predicted", "1,000"):
        assert word in text
