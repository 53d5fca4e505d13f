"""Damaged files of every kind that a user hands over: read, or refused in one line, in bounded time.

The inputs are the first of `python -m benchmarks.fuzz`, which tries more of them.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks._fuzz_kinds import KINDS, make_input
from benchmarks._fuzz_mutation import PLACES, mutate, write_files
from benchmarks.fuzz import Worker, save_failure, try_inputs
from nas.errors import NasError

N_INPUTS = {kind: {"run": 250, "profile": 350}.get(kind, 629) for kind in KINDS}
"""5,003 of all kinds together, fewer of those that take long."""


IN_FIVE_WAYS = """
import os, sys, time
print("ready", flush=True)
for line in sys.stdin:
    index = int(line.split()[2])
    if index == 2:
        os.abort()
    if index == 3:
        time.sleep(60)
    outcome, seen = [("read", ""), ("traceback", "KeyError: 'x'"), None, None, ("refused", "no")][index]
    print('{"outcome": "%s", "seen": "%s"}' % (outcome, seen), flush=True)
"""
"""A worker that reads input 0, fails at 1, dies at 2, hangs at 3 and refuses 4."""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    pytest.importorskip("PIL", reason="image files need pillow")
    with Worker() as started:
        yield started


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs_are_read_or_refused_in_a_line(worker: Worker, kind: str, tmp_path: Path) -> None:
    tally = try_inputs(worker, kind, range(N_INPUTS[kind]))
    for index, fault in tally.faults.items():
        save_failure(tmp_path, kind, index, seed=0, fault=fault)
    assert not tally.faults, f"see {tmp_path}"
    # Neither may be rare: a fault in the valid files or in their reader would refuse all.
    assert tally.outcomes["read"] > 10
    assert tally.outcomes["refused"] > 10


@pytest.mark.parametrize("kind", KINDS)
def test_an_input_depends_on_seed_kind_and_index_alone(kind: str) -> None:
    first = [make_input(KINDS[kind], 1, index)[0] for index in range(20)]
    assert first == [make_input(KINDS[kind], 1, index)[0] for index in range(20)]
    assert first != [make_input(KINDS[kind], 2, index)[0] for index in range(20)]


def test_a_traceback_a_death_and_a_hang_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.fuzz.SERVE", IN_FIVE_WAYS)
    with Worker(limit_s=1.0) as worker:
        tally = try_inputs(worker, "config", range(5))
    assert tally.outcomes == {"read": 1, "traceback": 2, "hang": 1, "refused": 1}
    assert sorted(tally.faults) == [1, 2, 3]
    assert "KeyError: 'x'" in tally.faults[1]
    assert "status -6" in tally.faults[2]
    save_failure(tmp_path, "config", 1, seed=0, fault=tally.faults[1])
    assert "--kinds config --seed 0 --first 1 --inputs 1" in (tmp_path / "config-0-1" / "seen.txt").read_text()


def test_every_place_of_a_file_occurs(tmp_path: Path) -> None:
    rng = random.Random(0)
    seen = {content for _ in range(3000) for content in mutate({"x": b"x"}, rng).values() if isinstance(content, str)}
    assert seen == set(PLACES)
    write_files({place: place for place in PLACES}, tmp_path)
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "folder").is_dir()
    assert (tmp_path / "device").is_char_device()
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_file_is_read(kind: str, tmp_path: Path) -> None:
    """Of the valid files two hold what no tool can know: floating-point pixels, and weights without names."""
    refused = []
    for number, files in enumerate(KINDS[kind].seeds()):
        place = tmp_path / str(number)
        place.mkdir()
        write_files(files, place)
        try:
            KINDS[kind].read(place, random.Random(1))
        except NasError as error:
            refused.append(str(error))
    unknown = {"picture": "floating-point", "checkpoint": "a list of other objects"}
    assert all(kind in unknown and unknown[kind] in message for message in refused), refused
    assert len(refused) == (kind in unknown)
