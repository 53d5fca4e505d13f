"""What a calibration has measured so far: a file that is appended to, so that one that was killed goes on.

The first line has what was asked for and the candidates that were chosen; each further one a candidate's number and its
measurement, or why there is none. A line that was cut off is ignored.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nas.candidate import Candidate
from nas.files import write_atomic
from nas.latency.costs import Costs
from nas.latency.estimate import Latency


@dataclass(frozen=True, kw_only=True)
class CalibrationEntry:
    """One net that was tried: its costs and measurement, or why there are none."""

    costs: Costs | None = None
    latency: Latency | None = None
    failure_reason: str = ""


@dataclass(kw_only=True)
class CalibrationJournal:
    """Life: opened, each net added once, removed when the calibration stands.

    Attributes:
        path: of the file.
        usual: the candidates that are held out.
        spread: the others.
        entries: number of a candidate (first the usual ones) to what became of it.
    """

    path: Path
    held_out: list[Candidate]
    training: list[Candidate]
    entries: dict[int, CalibrationEntry] = field(default_factory=dict)

    @classmethod
    def open_or_create(
        cls,
        path: Path,
        request: dict[str, Any],
        choose_candidates: Callable[[], tuple[list[Candidate], list[Candidate]]],
    ) -> "CalibrationJournal":
        """The journal of an earlier calibration that was asked for the same, else a new one in its place.

        Args:
            path: of the file.
            request: what the measurements and the choice of nets depend on; JSON-ready.
            choose_candidates: the usual and the spread candidates; called for a new one only.
        """
        request = json.loads(json.dumps(request))
        lines = _read_lines(path)
        if lines and lines[0].get("asked") == request:
            usual, spread = ([_parse_candidate(c) for c in lines[0][part]] for part in ("usual", "spread"))
            found = cls(path=path, held_out=usual, training=spread)
            found.entries = {line["number"]: _parse_entry(line) for line in lines[1:]}
            found._append("")  # ends a line that was cut off
            return found
        usual, spread = choose_candidates()
        found = cls(path=path, held_out=usual, training=spread)
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {"asked": request, "usual": [asdict(c) for c in usual], "spread": [asdict(c) for c in spread]}
        write_atomic(path, json.dumps(head) + "\n")
        return found

    @property
    def candidates(self) -> list[Candidate]:
        """All of them, by number."""
        return [*self.held_out, *self.training]

    def add(self, index: int, entry: CalibrationEntry) -> None:
        """Keep what became of a candidate."""
        fields: dict[str, Any] = {"number": index, "failed": entry.failure_reason}
        if entry.costs and entry.latency:
            fields |= {"costs": asdict(entry.costs), "measurement": entry.latency.to_dict()}
        self._append(json.dumps(fields))
        self.entries[index] = entry

    def remove(self) -> None:
        """Take the file away."""
        self.path.unlink(missing_ok=True)

    def _append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal as far as they are whole."""
    found: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(text))
        except ValueError:  # cut off when the process was killed
            continue
    return found


def _parse_entry(line: dict[str, Any]) -> CalibrationEntry:
    if line["failed"]:
        return CalibrationEntry(failure_reason=line["failed"])
    return CalibrationEntry(costs=Costs.from_dict(line["costs"]), latency=Latency.from_dict(line["measurement"]))


def _parse_candidate(fields: dict[str, Any]) -> Candidate:
    return Candidate.from_json(json.dumps(fields))
