"""One run, read once for its report, and how its figures are said."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nas.config import SearchConfig
from nas.latency.estimate import Latency
from nas.results.compression_effect import find_baseline
from nas.results.front import Fronts, compute_fronts, latest_by_key
from nas.results.record import Record
from nas.results.run_folder import RunFolder


@dataclass(frozen=True)
class RunView:
    """One run, read once."""

    folder: RunFolder

    @cached_property
    def config(self) -> SearchConfig:
        return self.folder.config

    @cached_property
    def records(self) -> list[Record]:
        return self.folder.records()

    @cached_property
    def search_records(self) -> list[Record]:
        return latest_by_key(self.records, "search")

    @cached_property
    def data(self) -> dict[str, Any]:
        return self._read_json("data.json") or {"name": self.config.search.dataset}

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self._read_json("environment.json")

    @cached_property
    def importance(self) -> dict[str, dict[str, float]]:
        return self._read_json("importance.json")

    @cached_property
    def fronts(self) -> Fronts:
        return compute_fronts(self.records, self.config.search.objectives)

    @property
    def front(self) -> list[Record]:
        return self.fronts.final

    @cached_property
    def baseline(self) -> Record | None:
        return find_baseline(self.records)

    @property
    def name(self) -> str:
        return self.folder.path.name

    @property
    def is_synthetic(self) -> bool:
        return bool(self.data.get("synthetic", self.config.search.dataset == "synthetic"))

    def _read_json(self, name: str) -> dict[str, Any]:
        file = self.folder.path / name
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found


def record_label(r: Record) -> str:
    """What a record is called in tables."""
    return "base" if r.phase == "base" else str(r.trial)


def format_accuracy(r: Record) -> str:
    """A record's accuracy in words."""
    return f"{r.score.accuracy:.1%}" if r.score else "no accuracy"


def format_latency(m: Latency | None) -> str:
    """A latency in words."""
    return f"{m.latency_ms:.3g} ms" if m else "no latency"
