"""Plan of the final training: which members of the search front are trained to their end.

A few members that are trained whole are worth more than many that are trained a little: on FER2013 networks gain until
60 to 300 epochs. So `--verify auto` takes as many members as the time that is left can train for `FULL_EPOCHS`, at
least two. The choice is written down once, because the time left is another one when a run is resumed.

    runs/NAME/final.json    keys of the members, in the order of their training, and the records they were chosen from
"""

import json
from collections.abc import Sequence

from nas.config import SearchFields, TrainingFields
from nas.results.front import representatives, search_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder

FINAL_FILE = "final.json"
MIN_MEMBERS, MAX_MEMBERS = 2, 5
UNLIMITED_MEMBERS = 3
"""Members where no time limit says how many can be trained."""
FULL_EPOCHS = 40.0
"""Epochs of a member that count as its end, where the time is short."""


def select_members(records: Sequence[Record], objectives: Sequence[str], n_members: int) -> list[Record]:
    """At most `n_members` of the search front that represent all of it, the most informative first."""
    return representatives(search_front(records, objectives), objectives, n_members)


def final_members(
    folder: RunFolder, search: SearchFields, training: TrainingFields, *, worker_s: float | None = None
) -> list[Record]:
    """The members that are trained in full.

    Args:
        folder: of the run; the choice of `--verify auto` is written there, and read where nothing was searched since.
        search: objectives.
        training: how many members, with how many seeds.
        worker_s: seconds that remain, of all workers together; None without a time limit.
    """
    records = folder.records()
    if training.verify != "auto":
        return select_members(records, search.objectives, training.verify)
    n_searched = sum(record.phase == "search" for record in records)
    planned = folder.read_json(FINAL_FILE) if (folder.path / FINAL_FILE).exists() else {}
    if planned.get("searched") == n_searched:
        by_key = {record.key: record for record in search_front(records, search.objectives)}
        return [by_key[key] for key in planned["keys"] if key in by_key]
    members = select_members(records, search.objectives, MAX_MEMBERS)
    members = select_members(records, search.objectives, n_affordable(members, training, worker_s))
    folder.write(FINAL_FILE, json.dumps({"searched": n_searched, "keys": [member.key for member in members]}))
    return members


def n_affordable(members: Sequence[Record], training: TrainingFields, worker_s: float | None) -> int:
    """How many members the time can train for `FULL_EPOCHS`, 2 to 5, judged by those that would be taken first."""
    if worker_s is None:
        return UNLIMITED_MEMBERS
    left = worker_s
    for place, member in enumerate(members):
        left -= training.verify_seeds * FULL_EPOCHS * member.seconds.get("train", 0.0) / max(member.epochs, 1e-9)
        if left < 0:
            return max(MIN_MEMBERS, place)
    return MAX_MEMBERS
