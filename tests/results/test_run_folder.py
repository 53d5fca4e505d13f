"""Run folder: records are whole or skipped, files appear whole, and locks end with their process."""

import json
import math
import os
import platform
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.config import make_config
from nas.errors import ConfigError
from nas.results.record import Record
from nas.results.run_folder import RunFolder, with_resumed_fields
from tests.fake_runs import a_run, a_search, some_record

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return a_run(tmp_path, records=[])


@contextmanager
def process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process with this code; killed at the end of the block."""
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def line(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    return started.stdout.readline()


@pytest.mark.parametrize("record", a_search(), ids=lambda r: f"{r.trial}-{r.phase}-{r.status}")
def test_a_record_survives_json(record: Record) -> None:
    line = record.to_json()
    assert "\n" not in line
    assert Record.from_json(line) == record


def test_fields_of_a_later_version_are_ignored() -> None:
    record = some_record(0, 0.5, 1.0)
    fields = json.loads(record.to_json()) | {"watts": 3.5}
    assert Record.from_json(json.dumps(fields)) == record


def test_objectives_of_a_record_are_none_where_unknown() -> None:
    record = some_record(3, 0.5, 2.5)
    assert [record.objective(o) for o in ("accuracy", "latency", "size", "energy")] == [0.5, 2.5, 4000.0, None]
    blank = replace(record, score=None, latency=None, size_bytes=None)
    assert [blank.objective(o) for o in ("accuracy", "latency", "size")] == [None, None, None]


def test_records_come_back_in_the_order_they_were_added(folder: RunFolder) -> None:
    assert folder.records() == []
    for record in a_search():
        folder.append(record)
    assert folder.records() == a_search()
    assert RunFolder.open_existing(folder.path).records() == a_search()


@given(cut=st.integers(0, 10**6), whole=st.integers(1, 4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_file_cut_anywhere_keeps_its_whole_records_and_accepts_more(
    tmp_path_factory: pytest.TempPathFactory, cut: int, whole: int
) -> None:
    folder = a_run(tmp_path_factory.mktemp("torn"), records=a_search()[:whole])
    file = folder.path / "records.jsonl"
    content = file.read_bytes()
    kept = content[: cut % len(content)]
    file.write_bytes(kept)

    # A line without its end is whole if only the line break is missing.
    before = [line for line in kept.split(b"\n") if line.endswith(b"}") and line in content.split(b"\n")]
    assert folder.records() == a_search()[: len(before)]

    folder.append(some_record(8, 0.3, 3.0))
    assert folder.records() == [*a_search()[: len(before)], some_record(8, 0.3, 3.0)]
    assert len(file.read_bytes().splitlines()) == len(before) + 1, "the torn line is gone"


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("latency", "latency_ms"), 0, "latency_ms must be finite and above 0, but is 0.0"),
        (("latency", "latency_ms"), -1.5, "latency_ms must be finite and above 0, but is -1.5"),
        (("latency", "latency_ms"), math.nan, "latency_ms must be finite and above 0, but is nan"),
        (("latency", "latency_ms"), "1", "latency.latency_ms: Input should be a valid number"),
        (("latency", "low_ms"), 99.0, "low_ms must be in [0, high_ms = 1.5], but is 99.0"),
        (("host", "p5_ms"), math.inf, "p5_ms must be finite and above 0, but is inf"),
        (("latency", "kind"), "guessed", "latency.kind: Input should be 'measured' or 'predicted'"),
        (("score", "accuracy"), 2, "accuracy must be in [0, 1], but is 2.0"),
        (("score", "accuracy"), math.nan, "accuracy must be in [0, 1], but is nan"),
        (("score", "recall"), {"sad": -0.1}, "recall.sad must be in [0, 1], but is -0.1"),
        (("score", "confusion"), [[1, 2]], "confusion must be a square table of counts"),
        (("size_bytes",), -1, "size_bytes must be finite and not negative, but is -1"),
        (("nonzero_params",), 10**9, "nonzero_params must be at most params = 900, but is 1000000000"),
        (("macs",), 10**400, "macs must be finite and not negative, but is 1000000000"),
        (("parity",), {"agreement": 10**400}, "parity.agreement must be finite, but is 1000000000"),
        (("epochs",), math.inf, "epochs must be finite and not negative, but is inf"),
        (("seconds",), {"train": -1.0}, "seconds.train must be finite and not negative, but is -1.0"),
        (("violations",), {"latency": math.nan}, "violations.latency must be finite, but is nan"),
        (("parity",), {"n": "many"}, "parity: Value error, must be numbers by name"),
        (("candidate",), {"space": "plain"}, "candidate.architecture: Field required"),
        (("status",), "done", "status: Input should be 'complete', 'infeasible' or 'failed'"),
        (("finished",), "2026-01-01T00:00:00", "finished must have a time zone"),
    ],
)
def test_an_impossible_figure_is_refused_with_file_and_line(
    tmp_path: Path, where: tuple[str, ...], value: object, message: str
) -> None:
    folder = a_run(tmp_path)
    file = folder.path / "records.jsonl"
    lines = file.read_text().splitlines()
    stored = json.loads(lines[0])
    holder = stored
    for name in where[:-1]:
        holder = holder[name]
    holder[where[-1]] = value
    file.write_text("\n".join([*lines[1:], json.dumps(stored)]) + "\n")
    with pytest.raises(ConfigError) as refusal:
        RunFolder(folder.path).records()
    text = str(refusal.value)
    assert text.startswith(f"{file}, line {len(lines)} must be as it was written, but {message}"), text
    assert text.isprintable()


@pytest.mark.parametrize("content", ["", "[1]", "[1, null]", "{}", "?", "[NaN, 1]", "[1, Infinity]"])
def test_a_damaged_clock_is_left_out_of_the_time_worked(folder: RunFolder, content: str) -> None:
    folder.write("clocks/1-1.json", "[100.0, 160.0]")
    folder.write("clocks/2-2.json", content)
    assert folder.worked_s() == 60.0


@pytest.mark.parametrize("content", ["", "[]", "7", "{", "[" * 100_000, "1" * 5000])
def test_a_damaged_json_file_is_refused_in_a_line(folder: RunFolder, content: str) -> None:
    folder.write("data.json", content)
    with pytest.raises(ConfigError, match=r"data\.json must be .*; restore the file") as refusal:
        folder.read_json("data.json")
    assert str(refusal.value).isprintable()


def test_concurrent_appends_lose_and_tear_no_line(folder: RunFolder) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom nas.results.run_folder import RunFolder\n"
        "for i in range(60): RunFolder(Path(sys.argv[1])).append_line('x.jsonl', '\"' + sys.argv[2] * 5000 + '\"')"
    )
    with process(code, str(folder.path), "a") as one, process(code, str(folder.path), "b") as other:
        assert (one.wait(120), other.wait(120)) == (0, 0)
    lines = (folder.path / "x.jsonl").read_text().splitlines()
    assert sorted(lines) == [f'"{letter * 5000}"' for letter in "ab" for _ in range(60)]


def test_a_file_appears_whole_or_not_at_all(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("x.txt", "before")

    def dies(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            folder.write("x.txt", "after, and much longer")
    assert (folder.path / "x.txt").read_text() == "before"
    assert folder.write("x.txt", b"after").read_text() == "after"


def test_a_run_is_driven_once_and_the_refusal_names_the_driver(folder: RunFolder) -> None:
    with folder.driven():
        refusal = rf"must have one driver, but process {os.getpid()} on {re.escape(platform.node())} works on it"
        with pytest.raises(ConfigError, match=refusal), folder.driven():
            pass
    with folder.driven():
        assert folder.read_json("locks/driver.json")["pid"] == os.getpid()


def test_a_killed_driver_leaves_the_run_to_one_that_waits(folder: RunFolder) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom nas.results.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).driven(wait=True): print('held', flush=True); time.sleep(600)"
    )
    with process(code, str(folder.path)) as first, process(code, str(folder.path)) as second:
        held, _, _ = select.select([first.stdout, second.stdout], [], [], 60)
        holder, waiter = (first, second) if held[0] is first.stdout else (second, first)
        assert line(holder) == "held\n"
        with pytest.raises(ConfigError, match=f"process {holder.pid}"), folder.driven():
            pass
        holder.send_signal(signal.SIGKILL)
        assert holder.wait(30) == -signal.SIGKILL
        assert line(waiter) == "held\n"
    with folder.driven():
        pass


def test_overlapping_work_counts_once(folder: RunFolder) -> None:
    assert folder.worked_s() == 0
    for name, span in {
        "1-1": [100.0, 110.0],
        "2-2": [105.0, 108.0],
        "3-3": [108.0, 120.0],
        "4-4": [200.5, 203.0],
    }.items():
        folder.write(f"clocks/{name}.json", json.dumps(span))
    assert folder.worked_s() == pytest.approx(20 + 2.5)


def test_a_later_time_extends_the_same_interval(folder: RunFolder) -> None:
    for worked_s in (1.0, 7.5):
        folder.log_work_interval(1000.0, worked_s)
    assert folder.worked_s() == pytest.approx(7.5)


def test_a_clock_that_was_set_back_spends_no_time_for_good(folder: RunFolder) -> None:
    now = time.time()
    for name, span in {"1-1": [now - 10, now + 1e6], "2-2": [now + 2e6, now + 2e6 + 5]}.items():
        folder.write(f"clocks/{name}.json", json.dumps(span))
    assert folder.worked_s() == pytest.approx(10 + 5, abs=2)


def test_the_same_configuration_opens_the_folder_again(tmp_path: Path) -> None:
    config = make_config(runs=tmp_path, trials=3)
    folder = RunFolder.open(config)
    longer = RunFolder.open(make_config(runs=tmp_path, trials=30, threads=2))
    assert longer.path == folder.path
    assert longer.config == config, "the folder keeps what the run was started with"


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    RunFolder.open(make_config(runs=tmp_path, trials=3, seed=1))
    with pytest.raises(
        ConfigError, match=r"another configuration \(epochs: 3.0 there, 2.0 asked; seed: 1 there, 7 ask"
    ):
        RunFolder.open(make_config(runs=tmp_path, trials=3, seed=7, epochs=2))


def test_a_resumed_run_keeps_its_sampler_unless_another_is_given(tmp_path: Path) -> None:
    assert with_resumed_fields(make_config(runs=tmp_path, trials=3)).search.sampler == "screened"
    begun = RunFolder.open(make_config(runs=tmp_path, trials=3, sampler="tpe"))
    again = with_resumed_fields(make_config(runs=tmp_path, trials=30))
    assert (again.search.sampler, again.search.trials) == ("tpe", 30)
    assert RunFolder.open(again).path == begun.path
    with pytest.raises(ConfigError, match="sampler: 'tpe' there, 'screened' asked"):
        RunFolder.open(with_resumed_fields(make_config(runs=tmp_path, trials=30, sampler="screened")))
    with pytest.raises(ConfigError, match="seed: 0 there, 7 asked"):
        RunFolder.open(with_resumed_fields(make_config(runs=tmp_path, trials=30, seed=7)))


def test_a_run_of_two_pruning_steps_resumes_with_two(tmp_path: Path) -> None:
    """As run folders were written while two was the default."""
    RunFolder.open(make_config(runs=tmp_path, trials=3, prune_steps=2))
    again = with_resumed_fields(make_config(runs=tmp_path, trials=30))
    assert again.compression.prune_steps == 2
    RunFolder.open(again)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"is no run folder \(it holds no config.toml\); start a run with `nas search`"
    ):
        RunFolder.open_existing(tmp_path)


def test_a_password_that_an_earlier_version_kept_is_removed(tmp_path: Path) -> None:
    url = "postgresql://ada:secret@db/nas"
    folder = a_run(tmp_path, records=[], storage=url)
    file = folder.path / "config.toml"
    assert "ada:***@db/nas" in file.read_text()
    file.write_text(file.read_text().replace("***", "secret"))
    assert a_run(tmp_path, records=[], storage=url).config.run.storage == "postgresql://ada:***@db/nas"
    assert "secret" not in file.read_text()
