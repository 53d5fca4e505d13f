"""Records today's behaviour anew, where it changed on purpose: `python -m tests.behaviour.record WHAT ...`.

What may be recorded: `run` (the small run folder), `search` (the fixed-seed search), and each of the replays. Say in
the commit why the behaviour changed. Recorded files name no machine: workers and hosts are replaced by a neutral word,
and what a search writes for the moment only (environment, locks, the report) is left out.
"""

import argparse
import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.behaviour import commands, replays, searches
from tests.behaviour.machine import fingerprint

LEFT_OUT = ("environment.json", "report.html", "pareto.json", "locks")
NEUTRAL = {
    "records.jsonl": (r'"worker":"[^"]*"', '"worker":"host/0"'),
    "journal.log": (r'"host": ?"[^"]*"', '"host":"host"'),
}
"""File to a pattern and what it is replaced by."""
ROUNDS = 6
"""Searches until the candidates must have settled."""


def run() -> None:
    """Make the small run folder, and take out what names this machine."""
    with tempfile.TemporaryDirectory() as place:
        commands.nas(f"{commands.SMALL_SEARCH} --trials {commands.SMALL_TRIALS}", place=Path(place))
        made = Path(place) / "runs" / commands.SMALL_RUN.name
        for name, (pattern, neutral) in NEUTRAL.items():
            text = (made / name).read_text()
            (made / name).write_text(re.sub(pattern, neutral, text))
        for clock in (made / "clocks").iterdir():
            clock.rename(clock.with_name("0-0.json"))
        shutil.rmtree(commands.SMALL_RUN, ignore_errors=True)
        shutil.copytree(made, commands.SMALL_RUN, ignore=shutil.ignore_patterns(*LEFT_OUT))
    write("small-run-machine.json", fingerprint())
    held = b"".join((commands.SMALL_RUN / name).read_bytes() for name in commands.UNCHANGED)
    (commands.DATA / "small-run.sha256").write_text(hashlib.sha256(held).hexdigest() + "\n")


def search() -> None:
    """Search until the training forms that are laid down are those of the candidates that are found.

    Raises:
        SystemExit: the candidates still change with the forms after `ROUNDS` searches; another seed may settle.
    """
    executions: dict[str, Any] = {}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as place:
            found = searches.search(Path(place), executions)
        keys = list(dict.fromkeys(each["key"] for each in found))
        if keys == list(executions):
            return write("search.json", {"machine": fingerprint(), "executions": executions, "records": found})
        executions = {key: searches.FORMS[i % len(searches.FORMS)] for i, key in enumerate(keys)}
    raise SystemExit(f"the candidates must be the same in two searches, but were not in {ROUNDS}; change the seed")


def replay(name: str) -> None:
    """Play a replay."""
    write(f"replay-{name}.json", {"machine": fingerprint(), **replays.in_own_process(name)})


def write(name: str, content: dict[str, Any]) -> None:
    """Put JSON into the folder of the recorded data, a list to a line."""
    text = json.dumps(content, indent=1)
    short = re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)
    (commands.DATA / name).write_text(short + "\n")


def main() -> None:
    """Record what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=["run", "search", *replays.REPLAYS])
    for what in parser.parse_args().what:
        {"run": run, "search": search}.get(what, lambda what=what: replay(what))()


if __name__ == "__main__":
    main()
