"""Warm start: what is taken from earlier runs, which runs are refused, and that the extract is stored."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas import registry
from nas.errors import ConfigError
from nas.results.run_folder import RunFolder
from nas.results.warm_start_log import warm_start_lines
from nas.searcher.assembly import make_study
from nas.searcher.promotion import RungResults
from nas.searcher.warm_start import WARM_START_FILE, WarmStart, warm_start
from search_spaces._base import Choice
from tests.fake_runs import a_run, some_record

GENES = (
    Choice(name="width", options=(8, 16, 32)),
    Choice(name="bits", options=(8, 32)),
    Choice(name="operation", options=("conv", "pool")),
)
NEUTRAL = {"bits": 32}
TARGET = {"title": "a board", "runtime": "tensorrt", "latency": None, "calibration": None}


def an_earlier_run(
    runs: Path, *, name: str = "earlier", trials: int = 8, genes: tuple[Choice, ...] = GENES, target: Any = TARGET,
    digest: str = "d1", stopped: tuple[int, ...] = (), **fields: Any,
) -> RunFolder:  # fmt: skip
    """A run whose trials are all on its front: accuracy and latency grow with the number. Some were `stopped` early."""
    folder = a_run(runs, records=[], name=name, **fields)
    folder.write("data.json", json.dumps({"digest": digest}))
    folder.write("target.json", json.dumps(target))
    study = make_study(folder, folder.config, genes, registry.load("sampler", "screened"))
    for number in range(trials):
        ask = study.ask()
        record = some_record(number, 0.5 + 0.02 * number, 1.0 + number, rung=1 if number in stopped else 3)
        folder.append(record)
        study.tell(ask, record)
    return folder


def a_new_run(runs: Path, *earlier: RunFolder | Path, digest: str = "d1", **fields: Any) -> RunFolder:
    paths = tuple(e.path if isinstance(e, RunFolder) else e for e in earlier)
    folder = a_run(runs, records=[], **{"name": "new", "warm_start": paths, **fields})
    folder.write("data.json", json.dumps({"digest": digest}))
    folder.write("target.json", json.dumps(TARGET))
    return folder


def start(folder: RunFolder, genes: tuple[Choice, ...] = GENES) -> WarmStart:
    config = folder.config
    return warm_start(
        folder,
        genes,
        search=config.search,
        training=config.training,
        neutral=NEUTRAL,
        rung_results=RungResults(folder, config.search.objectives),
    )


def test_run_without_earlier_runs_writes_nothing(tmp_path: Path) -> None:
    found = start(a_new_run(tmp_path))
    assert (found.runs, found.records, found.initial_picks, found.describe_origin("key")) == ((), [], [], None)
    assert not (tmp_path / "new" / WARM_START_FILE).exists()
    assert warm_start_lines(tmp_path / "new") == []


def test_gene_values_accuracies_and_the_front_are_extracted_and_stored(tmp_path: Path) -> None:
    earlier = an_earlier_run(tmp_path)
    new = a_new_run(tmp_path, earlier)
    found = start(new)
    picks, told, _ = found.prior_trials([])
    assert len(picks) == 8
    assert all(list(p) == ["width", "bits", "operation"] for p in picks)
    assert sorted(told[:, 0]) == pytest.approx([0.5 + 0.02 * i for i in range(8)], abs=1 / 300)
    assert np.isnan(told[:, 1]).all(), "latencies come with the records, by key"
    assert {r.key: r.latency for r in found.records} == {r.key: r.latency for r in earlier.records()}
    assert len(found.initial_picks) == 8
    record = earlier.records()[3]
    assert found.describe_origin(record.key) == (
        f"asked first, as it was on the front of an earlier run: trial 3 of {earlier.path}"
    )
    assert found.describe_origin("another") is None
    assert warm_start_lines(new.path) == [
        (
            f"warm start from {earlier.path}: accuracies of 8 candidates, latencies and sizes, and 8 members of its "
            "front proposed first"
        )
    ]
    shutil.rmtree(earlier.path)
    again = start(new)
    assert again == found
    assert again.prior_trials([])[0] == picks


def test_run_on_another_target_gives_accuracies_only(tmp_path: Path) -> None:
    earlier = an_earlier_run(tmp_path, target={**TARGET, "title": "another board"}, max_latency="9ms")
    found = start(a_new_run(tmp_path, earlier))
    assert found.records == []
    assert len(found.prior_trials([])[0]) == 8
    assert "(its target is jetson, so no latencies)" in warm_start_lines(tmp_path / "new")[0]


def test_accuracies_of_another_training_are_shifted_by_common_candidates(tmp_path: Path) -> None:
    found = start(a_new_run(tmp_path, an_earlier_run(tmp_path)))
    own = [some_record(i, 0.5 + 0.02 * i + 0.1, 1.0) for i in (1, 2, 3)] + [some_record(9, 0.9, 1.0)]
    own.append(some_record(4, 0.1, 1.0, status="infeasible"))
    own += [some_record(i, 0.2, 1.0, rung=1) for i in (0, 5, 6, 7)]  # stopped early, so not comparable
    assert (found.prior_trials(own)[1] - found.prior_trials([])[1])[:, 0] == pytest.approx(0.1, abs=1 / 150)


def test_candidates_that_stopped_early_give_no_accuracy(tmp_path: Path) -> None:
    earlier = an_earlier_run(tmp_path, stopped=(0, 2, 4, 6))
    picks, told, _ = start(a_new_run(tmp_path, earlier)).prior_trials([])
    assert sorted(told[:, 0]) == pytest.approx([0.5 + 0.02 * i for i in range(1, 8, 2)], abs=1 / 300)
    assert len(picks) == 4


def add_first_rung(folder: RunFolder, key: str, accuracy: float) -> None:
    folder.append_line("rungs.jsonl", json.dumps({"key": key, "rung": 1, "values": [accuracy, 1.0]}))


def test_candidates_that_stopped_early_give_their_first_rung(tmp_path: Path) -> None:
    earlier = an_earlier_run(tmp_path, stopped=(0, 2, 4, 6))
    keys = [record.key for record in earlier.records()]
    for number in range(1, 8):  # trial 0 has no result
        add_first_rung(earlier, keys[number], 0.3 + 0.01 * number)
    new = a_new_run(tmp_path, earlier)
    found = start(new)
    picks, told, looks = found.prior_trials([])
    assert len(picks) == 7
    assert np.isfinite(told[:, 0]).sum() == 4
    assert np.isnan(looks[:, 1]).all()
    assert sorted(looks[:, 0]) == pytest.approx([0.3 + 0.01 * i for i in range(1, 8)])
    assert sorted(looks[np.isnan(told[:, 0]), 0]) == pytest.approx([0.32, 0.34, 0.36])
    assert "accuracies of 4 candidates, first-rung results of 3 more, latencies" in warm_start_lines(new.path)[0]
    for number in (2, 3, 5):
        add_first_rung(new, keys[number], 0.5 + 0.01 * number)
    assert (found.prior_trials([])[2] - looks)[:, 0] == pytest.approx(0.2)
    np.testing.assert_array_equal(found.prior_trials([])[1], told)


def test_first_rungs_of_another_length_are_used_once_there_are_common_candidates(tmp_path: Path) -> None:
    earlier = an_earlier_run(tmp_path, stopped=(0, 2), epochs=9)
    keys = [record.key for record in earlier.records()]
    for key in keys:
        add_first_rung(earlier, key, 0.4)
    new = a_new_run(tmp_path, earlier, epochs=3)
    found = start(new)
    picks, told, looks = found.prior_trials([])
    assert (len(picks), np.isfinite(told[:, 0]).sum(), np.isfinite(looks).sum()) == (6, 6, 0)
    add_first_rung(new, keys[0], 0.3)
    assert found.prior_trials([])[2][:, 0] == pytest.approx([0.3] * 8)


def test_extract_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    new = a_new_run(tmp_path, an_earlier_run(tmp_path))
    before = start(new)
    kept = [{k: v for k, v in raw.items() if k not in ("stopped", "looks", "same_look")}
            for raw in json.loads((new.path / WARM_START_FILE).read_text())]  # fmt: skip
    new.write(WARM_START_FILE, json.dumps(kept))
    np.testing.assert_array_equal(start(new).prior_trials([])[1], before.prior_trials([])[1])


def test_values_take_the_nearest_option_and_missing_genes_are_neutral(tmp_path: Path) -> None:
    genes = (Choice(name="width", options=(12, 48)), Choice(name="operation", options=("conv", "pool")))
    earlier = an_earlier_run(tmp_path, genes=(*genes, Choice(name="gone", options=(1, 2))))
    sixteen = (*GENES, Choice(name="only", options=(5,)))
    picks, _, _ = start(a_new_run(tmp_path, earlier), sixteen).prior_trials([])
    assert {p["width"] for p in picks} <= {16, 32}
    assert {p["bits"] for p in picks} == {32}
    assert {p["only"] for p in picks} == {5}


def test_16_bits_take_the_option_32_rather_than_8(tmp_path: Path) -> None:
    bits = (Choice(name="width", options=(8, 16)), Choice(name="bits", options=(16,)), GENES[2])
    picks, _, _ = start(a_new_run(tmp_path, an_earlier_run(tmp_path, genes=bits))).prior_trials([])
    assert {p["bits"] for p in picks} == {32}


def test_words_without_an_option_are_left_out(tmp_path: Path) -> None:
    words = (GENES[0], GENES[1], Choice(name="operation", options=("conv", "attention")))
    earlier = an_earlier_run(tmp_path, genes=words, trials=12)
    picks, _, _ = start(a_new_run(tmp_path, earlier)).prior_trials([])
    assert 0 < len(picks) < 12
    assert {p["operation"] for p in picks} == {"conv"}


def test_several_earlier_runs_are_combined(tmp_path: Path) -> None:
    runs = [an_earlier_run(tmp_path, name=name, trials=n) for name, n in (("one", 3), ("two", 4))]
    found = start(a_new_run(tmp_path, *runs))
    assert len(found.prior_trials([])[0]) == 7
    assert len(warm_start_lines(tmp_path / "new")) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space": "darts"}, "must name runs that searched plain, but .*earlier searched darts"),
        (
            {"digest": "d2"},
            "must name runs on the same data, but .*earlier was started with synthetic of digest d2, and",
        ),
        ({"trials": 0}, "must name runs that have evaluated something, but .*earlier has no complete record"),
    ],
)
def test_unsuitable_run_is_refused_in_one_line(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    earlier = an_earlier_run(tmp_path, **fields)
    with pytest.raises(ConfigError, match=message) as caught:
        start(a_new_run(tmp_path, earlier))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new" / WARM_START_FILE).exists()


def test_missing_run_and_the_run_itself_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent is no run folder"):
        start(a_new_run(tmp_path, tmp_path / "absent"))
    with pytest.raises(
        ConfigError, match=r"must name another run, but .* is this one; repeat its command to resume it"
    ):
        start(a_new_run(tmp_path / "other", tmp_path / "other" / "new"))


def test_warm_start_is_part_of_the_configuration(tmp_path: Path) -> None:
    earlier = an_earlier_run(tmp_path)
    a_new_run(tmp_path, earlier)
    with pytest.raises(ConfigError, match="warm_start: "):
        a_run(tmp_path, records=[], name="new")
