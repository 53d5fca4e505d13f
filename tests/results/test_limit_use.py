"""Use of the latency limit, on records made by hand."""

from pathlib import Path

from nas.results.limit_use import describe_limit_use
from nas.results.record import Record
from nas.results.search_end import SearchEnd, describe_search_end, write_search_end
from tests.fake_runs import a_run, a_search, some_record


def line_of(tmp_path: Path, records: list[Record], **fields: object) -> str:
    folder = a_run(tmp_path / "r", records=records, **fields)
    return " ".join(describe_limit_use(folder, records))


def test_a_limit_that_a_member_comes_near_to_is_not_mentioned(tmp_path: Path) -> None:
    assert line_of(tmp_path, a_search()) == ""  # 4 of 5 ms
    assert line_of(tmp_path / "b", [some_record(0, 0.4, 2.6)]) == ""
    assert line_of(tmp_path / "c", [some_record(0, 0.4, 0.1)], max_latency=None) == ""
    assert line_of(tmp_path / "d", []) == ""
    base = [some_record(-1, 0.9, 1.0, phase="base"), some_record(0, 0.8, 0.5)]
    assert line_of(tmp_path / "e", base, model="resnet8") == ""


def test_a_limit_that_nothing_came_near_to_is_said(tmp_path: Path) -> None:
    records = [some_record(0, 0.4, 1.0), some_record(1, 0.5, 2.0), some_record(2, None, 9.0, score=None)]
    assert line_of(tmp_path, records) == (
        "the limit of 5 ms does not bind: the slowest member of the front takes 2 ms, and no network of more than "
        "2.5 ms was trained; more time (--budget) allows larger ones, another --space may hold better ones"
    )


def test_slower_networks_that_gained_nothing_are_named(tmp_path: Path) -> None:
    records = [
        some_record(0, 0.4, 1.0), some_record(1, 0.5, 2.0), some_record(2, 0.45, 3.0), some_record(3, 0.3, 4.5),
        some_record(4, None, 5.5, score=None, status="infeasible", violations={"max_latency": 0.1}),
        some_record(5, 0.48, 2.3),
    ]  # fmt: skip
    found = line_of(tmp_path, records)
    assert "takes 2 ms, and 2 slower networks of up to 4.5 ms gained nothing in 3 epochs" in found
    name = f"{tmp_path}/r/synthetic-plain-jetson:{records[2].key[:8]}"
    assert found.endswith(f"these whole: nas train --model {name} --epochs 60 --target jetson --dataset synthetic")


def test_it_is_among_the_lines_at_the_end_of_a_search(tmp_path: Path) -> None:
    records = [some_record(0, 0.4, 1.0)]
    folder = a_run(tmp_path, records=records)
    assert not any("does not bind" in line for line in describe_search_end(folder, records))  # it goes on
    write_search_end(folder, SearchEnd(why="trials", candidates=1))
    assert any("the limit of 5 ms does not bind" in line for line in describe_search_end(folder, records))
