"""Searches of a table of candidates: nearest rows, the table of a run, and the plot."""

import itertools
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from benchmarks import _candidate_table, _replays, fer_table, plot_search, search_table
from benchmarks._samplers import sampler_factories
from nas import registry
from nas.searcher.assembly import make_study
from search_spaces._base import Choice
from tests.fake_runs import a_run, some_record


def some_rows(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"key": [f"k{i}" for i in range(40)]})
    frame["gene.width"] = rng.choice([8, 16, 24, 64], 40)
    frame["gene.op"] = rng.choice(["conv", "None", "skip"], 40)
    frame["gene.depth"] = rng.choice([1, 2, 3], 40)
    frame["gene.only"] = 48
    frame["accuracy"] = 0.3 + 0.02 * np.log2(frame["gene.width"]) + rng.normal(0, 0.01, 40)
    frame["latency_ms"] = 0.1 + 0.01 * frame["gene.width"] * frame["gene.depth"]
    frame["size_bytes"] = 100 * frame["gene.width"]
    path = tmp_path / "rows.csv"
    frame.to_csv(path, index=False)
    return path


def test_a_row_is_nearest_to_itself_and_different_categories_have_distance_one(tmp_path: Path) -> None:
    rows = _candidate_table.read_table(some_rows(tmp_path), "accuracy", "latency_ms")
    assert list(rows.options) == ["width", "op", "depth"]  # a constant column is not a gene
    assert rows.nearest(rows.configurations) == list(range(len(rows.configurations)))
    first = rows.configurations[0]
    other = {**first, "op": next(o for o in rows.options["op"] if o != first["op"])}
    assert rows.distances([other])[0, 0] == pytest.approx(1 / 3)
    wider = {**first, "width": 8 if first["width"] != 8 else 64}
    assert 0 < rows.distances([wider])[0, 0] < 1 / 3
    assert rows.hypervolume_share(range(len(rows.configurations))) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["random", "tpe-multivariate", "nsga2-20", "local-search", "screened"])
def test_every_row_of_a_table_is_evaluated_once(name: str, tmp_path: Path) -> None:
    rows = _candidate_table.read_table(some_rows(tmp_path), "accuracy", "latency_ms")
    evaluated: list[int] = []

    def answer(picked: _replays.Configuration) -> tuple[list[float], None]:
        evaluated.extend(rows.nearest([picked]))
        return rows.values[evaluated[-1]].tolist(), None

    sampler = _candidate_table.NearestRowSampler(sampler_factories(rows.space, **rows.sampler_context())[name](0), rows)
    _replays.run_replay(sampler, rows.space, answer, trials=len(rows.configurations), limit_s=None)
    assert sorted(evaluated) == list(range(len(rows.configurations)))


def test_a_table_without_genes_or_columns_is_refused_in_one_line(tmp_path: Path) -> None:
    path = some_rows(tmp_path)
    with pytest.raises(SystemExit, match="must have the columns speed"):
        _candidate_table.read_table(path, "accuracy", "speed")
    bare = tmp_path / "bare.csv"
    bare.write_text("accuracy,latency_ms\n0.5,1.0\n")
    with pytest.raises(SystemExit, match=r"must have columns gene\.NAME"):
        _candidate_table.read_table(bare, "accuracy", "latency_ms")


def test_a_table_is_searched_and_plotted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, picture = tmp_path / "out.json", tmp_path / "out.svg"
    flags = f"--table {some_rows(tmp_path)} --sampler random,screened --trials 1000 --seeds 2 --json {out}"
    monkeypatch.setattr(sys, "argv", ["search_table", *flags.split()])
    search_table.main()
    found = json.loads(out.read_text())
    assert found["samplers"]["screened"]["mean"]["curve"][-1] == pytest.approx(1.0)
    monkeypatch.setattr(sys, "argv", ["plot_search", str(out), "--titles", "a < b", "--out", str(picture)])
    plot_search.main()
    drawn = ElementTree.fromstring(picture.read_text())
    lines = [e for e in drawn.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 2
    assert "a < b" in [e.text for e in drawn.iter()]
    heights = [[float(p.split(",")[1]) for p in line.attrib["points"].split()] for line in lines]
    assert all(
        a >= b for line in heights for a, b in itertools.pairwise(line)
    )  # y grows downwards, and curves never fall


def test_the_table_of_a_run_holds_fully_trained_candidates(tmp_path: Path) -> None:
    choices = (Choice(name="width", options=(8, 16, 24)), Choice(name="op", options=("conv", "pool")))
    folder = a_run(tmp_path, records=[])
    study = make_study(folder, folder.config, choices, registry.load("sampler", "random"))
    with pytest.raises(SystemExit, match="must hold candidates that were trained through all rungs"):
        fer_table.table(folder)
    configurations = []
    for i in range(5):
        ask = study.ask()
        cut_short = {"rung": 1} if i == 0 else {"epochs": 2.9} if i == 4 else {}
        record = some_record(ask.number, 0.5 + 0.01 * i, 2.0 + i, **({"rung": 3} | cut_short))
        folder.append(record)
        study.tell(ask, record)
        configurations.append(ask.picked)
    frame = fer_table.table(folder)
    assert frame["accuracy"].tolist() == pytest.approx([0.51, 0.52, 0.53])
    assert frame["latency_ms"].tolist() == [3.0, 4.0, 5.0]
    assert frame["key"].tolist() == [r.key for r in folder.records()[1:4]]
    assert frame["gene.width"].tolist() == [p["width"] for p in configurations[1:4]]
    assert frame["gene.op"].tolist() == [p["op"] for p in configurations[1:4]]
