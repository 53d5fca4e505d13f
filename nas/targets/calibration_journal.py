"""Calibration journal: an append-only file of what a calibration has measured, from which a killed one resumes.

The first line holds the request and the chosen candidates. Each further line holds a candidate's index and its
measurement, or why it has none. A line that was cut off is ignored.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nas.candidate import Candidate
from nas.files import write_atomic
from nas.latency.costs import Costs
from nas.latency.latency import Latency


@dataclass(frozen=True, kw_only=True)
class CalibrationEntry:
    """The outcome for one candidate: its costs and latency, or why it has none."""

    costs: Costs | None = None
    latency: Latency | None = None
    failure_reason: str = ""


@dataclass(kw_only=True)
class CalibrationJournal:
    """The journal of one calibration. Life: opened or created, each candidate added once, removed at the end.

    Attributes:
        path: of the file.
        held_out: candidates that are held out.
        training: the other candidates.
        entries: index of a candidate in `candidates` to its outcome.
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
        """The journal of an interrupted calibration with the same request, or else a new one in its place.

        Args:
            path: of the file.
            request: what the measurements and the choice of candidates depend on; ready for JSON.
            choose_candidates: returns the held-out and the training candidates; called for a new journal only.
        """
        request = json.loads(json.dumps(request))  # tuples become lists, as in what is read back
        lines = _read_lines(path)
        if lines and lines[0].get("asked") == request:
            held_out, training = ([_parse_candidate(c) for c in lines[0][part]] for part in ("usual", "spread"))
            journal = cls(path=path, held_out=held_out, training=training)
            journal.entries = {line["number"]: _parse_entry(line) for line in lines[1:]}
            journal._append("")  # ends a line that was cut off
            return journal
        held_out, training = choose_candidates()
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {"asked": request, "usual": [asdict(c) for c in held_out], "spread": [asdict(c) for c in training]}
        write_atomic(path, json.dumps(head) + "\n")
        return cls(path=path, held_out=held_out, training=training)

    @property
    def candidates(self) -> list[Candidate]:
        """All candidates, the held-out ones first."""
        return [*self.held_out, *self.training]

    def add(self, index: int, entry: CalibrationEntry) -> None:
        """Append the outcome for a candidate."""
        fields: dict[str, Any] = {"number": index, "failed": entry.failure_reason}
        if entry.costs and entry.latency:
            fields |= {"costs": asdict(entry.costs), "measurement": entry.latency.to_dict()}
        self._append(json.dumps(fields))
        self.entries[index] = entry

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def _append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a journal, parsed."""
    lines: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:  # cut off when the process was killed
            continue
    return lines


def _parse_entry(line: dict[str, Any]) -> CalibrationEntry:
    if line["failed"]:
        return CalibrationEntry(failure_reason=line["failed"])
    return CalibrationEntry(costs=Costs.from_dict(line["costs"]), latency=Latency.from_dict(line["measurement"]))


def _parse_candidate(fields: dict[str, Any]) -> Candidate:
    return Candidate.from_json(json.dumps(fields))
