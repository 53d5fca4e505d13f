"""Published models in the plot: one series, their hover text, and the table's cells."""

from pathlib import Path

from nas.reporting.published_series import published_row, published_series
from nas.reporting.run_view import RunView
from nas.results.published_baseline import add_baselines
from tests.fake_baselines import some_baseline
from tests.fake_runs import a_run


def test_each_baseline_is_a_point_with_its_figures(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    assert published_series(RunView(folder), colour="red", suffix="") == []
    add_baselines(folder, [some_baseline(0.6, 3.0), some_baseline(0.5, 1.0, name="other", host=None)])
    (series,) = published_series(RunView(folder), colour="red", suffix=", run")
    assert (series.name, series.role, series.colour) == ("published, run", "published", "red")
    first, second = series.points
    assert (first.y, first.kind) == (60.0, "predicted")
    assert first.x[0] == (3.0, 0.6 * 3.0, 1.5 * 3.0)
    assert first.x[1] is not None
    assert first.x[2] == (243.981, 243.981, 243.981)
    assert second.x[1] is None
    for words in (
        "<b>mini</b> published baseline, not a member of the front", "60.0% [54.4%, 65.4%] val (synthetic faces)",
        "3 ms predicted, Jetson Orin Nano", "0.728 ms measured, this host", "58,423 weights, 244.0 kB",
    ):  # fmt: skip
        assert words in first.hover


def test_a_row_has_no_cells_that_only_candidates_have() -> None:
    row = published_row(some_baseline(params=None, macs=None, host=None))
    assert row["is_published"]
    assert (row["weights"], row["mmac"], row["host"]) == ("weights unknown", "", "")
    assert not any(row[name] for name in ("searched", "ratios", "sparsity", "compression", "epochs", "command"))
