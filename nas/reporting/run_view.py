"""One run, read once for its report, and how its figures are said."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nas.config import SearchConfig
from nas.latency.estimate import Measurement
from nas.results.compression_effect import uncompressed
from nas.results.front import Fallen, fallen, front, latest, search_front, verified_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder


@dataclass(frozen=True)
class View:
    """One run, read once."""

    folder: RunFolder

    @cached_property
    def config(self) -> SearchConfig:
        return self.folder.config

    @cached_property
    def records(self) -> list[Record]:
        return self.folder.records()

    @cached_property
    def searched(self) -> list[Record]:
        return latest(self.records, "search")

    @cached_property
    def data(self) -> dict[str, Any]:
        return self._json("data.json") or {"name": self.config.dataset}

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self._json("environment.json")

    @cached_property
    def importance(self) -> dict[str, dict[str, float]]:
        return self._json("importance.json")

    @cached_property
    def front(self) -> list[Record]:
        return front(self.records, self.config.objectives)

    @cached_property
    def search_front(self) -> list[Record]:
        return search_front(self.records, self.config.objectives)

    @cached_property
    def verified_front(self) -> list[Record]:
        return verified_front(self.records, self.config.objectives)

    @cached_property
    def fallen(self) -> list[Fallen]:
        return fallen(self.records, self.config.objectives)

    @cached_property
    def base(self) -> Record | None:
        return uncompressed(self.records)

    @property
    def name(self) -> str:
        return self.folder.path.name

    @property
    def synthetic(self) -> bool:
        return bool(self.data.get("synthetic", self.config.dataset == "synthetic"))

    def _json(self, name: str) -> dict[str, Any]:
        file = self.folder.path / name
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found


def label(r: Record) -> str:
    """What a record is called in tables."""
    return "base" if r.phase == "base" else str(r.trial)


def percent(r: Record) -> str:
    """A record's accuracy in words."""
    return f"{r.score.accuracy:.1%}" if r.score else "no accuracy"


def ms(m: Measurement | None) -> str:
    """A latency in words."""
    return f"{m.latency_ms:.3g} ms" if m else "no latency"
