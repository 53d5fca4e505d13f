"""A finished search: its files hold what they promise, and repeating the command trains nothing."""

import hashlib
import json
from collections.abc import Iterator

import numpy as np
import pytest

from nas.config import make_config
from nas.results.front_table import COLUMNS
from nas.results.run_folder import RunFolder
from nas.results.status import SearchStatus
from nas.searcher.searcher import search
from tests.journal import trials_of
from tests.tiny_search import (
    ASSEMBLY,
    FACES,
    RUNGS,
    TINY,
    Training,
    accuracy,
    assert_whole,
    make_quick,
    probabilities,
    rows,
    searched,
    session,
    verified,
)

FILES = {"config.toml", "environment.json", "data.json", "target.json", "journal.log", "records.jsonl", "rungs.jsonl"}
FILES |= {"pareto.csv", "pareto.json", "importance.json", "report.html", "ended.json"}


@pytest.fixture(scope="module", params=["jetson", "cpu"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """The folder of a finished search."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        patch.setattr(ASSEMBLY, "load_data", lambda *_, **__: FACES)
        runs = tmp_path_factory.mktemp("runs")
        yield search(make_config(**(TINY | {"target": request.param, "runs": runs, "rungs": RUNGS, "verify": 2})))


def test_finished_search_holds_all_promised_files(finished: RunFolder) -> None:
    assert {p.name for p in finished.path.iterdir() if p.is_file() and not p.name.startswith(".")} == FILES
    records = searched(finished)
    assert [r.trial for r in records] == [0, 1, 2]
    assert {r.status for r in records} == {"complete"}
    assert 1 <= len(verified(finished)) <= 2
    assert all(r.test is not None and r.test.n == 12 for r in verified(finished))
    assert all(r.test is None for r in records)
    assert_whole(finished)
    assert "plotly" in (finished.path / "report.html").read_text()
    notes = json.loads((finished.path / "data.json").read_text())
    assert (notes["train"], notes["val"], notes["test"], notes["synthetic"]) == (32, 24, 12, True)


def test_every_row_of_the_front_matches_its_file(finished: RunFolder) -> None:
    front = rows(finished)
    assert front
    assert tuple(front[0]) == COLUMNS
    for row in front:
        file = finished.path / row["model"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]
        assert int(row["size_bytes"]) == file.stat().st_size
        assert row["phase"] == "verified"
        assert row["latency_kind"] == ("measured" if finished.config.search.target == "cpu" else "predicted")
        assert float(row["latency_low_ms"]) <= float(row["latency_ms"]) <= float(row["latency_high_ms"])
        assert float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"])
        assert float(row["accuracy"]) == pytest.approx(accuracy(file, FACES))
        assert 0 < float(row["host_latency_ms"]) < 1000
        assert "synthetic" in row["accuracy_split"]
        predicted = probabilities(file, FACES.val.images[:5])
        assert predicted.shape == (5, 3)
        np.testing.assert_allclose(predicted.sum(1), 1, atol=1e-3)
        metadata = session(file).get_modelmeta().custom_metadata_map
        assert json.loads(metadata["labels"]) == ["angry", "happy", "sad"]
    points = [(-float(row["accuracy"]), float(row["latency_ms"])) for row in front]
    for a in points:
        assert not any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in points), "no point of the front is dominated"


def test_repeated_command_trains_nothing(finished: RunFolder, trainings: list[Training]) -> None:
    before = {name: (finished.path / name).read_bytes() for name in ("records.jsonl", "pareto.csv", "pareto.json")}
    trials = len(trials_of(finished))
    states: list[SearchStatus] = []
    search(finished.config, on_status=states.append)
    assert trainings == []
    assert {name: (finished.path / name).read_bytes() for name in before} == before
    assert len(trials_of(finished)) == trials
    assert (states[-1].stage, states[-1].feasible_share) == ("done", 1.0)
    assert states[-1].done == len(verified(finished))
