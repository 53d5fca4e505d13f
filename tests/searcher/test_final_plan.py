"""How many members are trained to their end, and that the choice holds for a resumed run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.config import make_config
from nas.results.record import Record
from nas.searcher.final_plan import final_members, n_affordable, select_members
from tests.fake_runs import a_run, some_record

OBJECTIVES = ("accuracy", "latency")


def front(epoch_s: float) -> list[Record]:
    """Six members, each better in one objective and worse in the other, with so many seconds an epoch."""
    records = [some_record(trial=i, accuracy=0.5 + 0.02 * i, latency_ms=1.0 + i) for i in range(6)]
    return [replace(r, epochs=2.0, seconds={"train": 2 * epoch_s}) for r in records]


def test_the_time_left_decides_on_two_to_five_members() -> None:
    training, members = make_config().training, front(epoch_s=1.0)[:5]
    for worker_s, expected in ((None, 3), (1.0, 2), (81.0, 2), (121.0, 3), (161.0, 4), (1e6, 5)):
        assert n_affordable(members, training, worker_s) == expected
    assert n_affordable(members, make_config(verify_seeds=3).training, 121.0) == 2


def test_the_choice_is_kept_until_more_was_searched(tmp_path: Path) -> None:
    config, records = make_config(), front(epoch_s=1.0)
    folder = a_run(tmp_path, records=records)

    def chosen(worker_s: float) -> list[str]:
        return [r.key for r in final_members(folder, config.search, config.training, worker_s=worker_s)]

    few = chosen(100.0)
    assert few == [r.key for r in select_members(records, OBJECTIVES, 2)]
    assert chosen(1e6) == few
    folder.append(replace(records[0], trial=9, key="new", candidate=records[0].candidate))
    assert len(chosen(1e6)) == 5


def test_a_number_is_what_the_user_said(tmp_path: Path) -> None:
    config: Any = make_config(verify=4)
    folder = a_run(tmp_path, records=front(epoch_s=1.0))
    assert len(final_members(folder, config.search, config.training, worker_s=1.0)) == 4
    assert not (folder.path / "final.json").exists()
