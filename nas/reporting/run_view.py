"""View of one run for its report: everything is read and computed once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import FiniteFloat

from nas.config import SearchConfig
from nas.latency.latency import Latency
from nas.results.compression_effect import find_baseline
from nas.results.data_facts import is_synthetic, read_data_facts
from nas.results.front import Fronts, compute_fronts, latest_by_key
from nas.results.front_comparison import describe_comparison
from nas.results.published_baseline import PublishedBaseline, read_baselines
from nas.results.record import Record
from nas.results.run_folder import RunFolder


@dataclass(frozen=True)
class RunView:
    """One run as it is when each property is first read; records that are added later do not show."""

    folder: RunFolder

    @cached_property
    def config(self) -> SearchConfig:
        """The configuration the run was started with."""
        return self.folder.config

    @cached_property
    def records(self) -> list[Record]:
        """All finished candidates, oldest first."""
        return self.folder.records()

    @cached_property
    def search_records(self) -> list[Record]:
        """The latest record of each candidate of the search."""
        return latest_by_key(self.records, "search")

    @cached_property
    def data(self) -> dict[str, Any]:
        """Facts of the data set, as in data.json."""
        return read_data_facts(self.folder)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions and machine, as in environment.json; empty where the file is missing."""
        stored: dict[str, Any] = self.folder.read_json("environment.json", dict[str, str])
        return stored

    @cached_property
    def importance(self) -> dict[str, dict[str, float]]:
        """Objective to importance of each gene, 0..1; empty where the file is missing."""
        stored: dict[str, dict[str, float]] = self.folder.read_json(
            "importance.json", dict[str, dict[str, FiniteFloat]]
        )
        return stored

    @cached_property
    def fronts(self) -> Fronts:
        """Search front, verified front and dropped members."""
        return compute_fronts(self.records, self.config.search.objectives)

    @property
    def front(self) -> list[Record]:
        """The verified front, or the search front while the verified front is empty."""
        return self.fronts.final

    @cached_property
    def baseline(self) -> Record | None:
        """The uncompressed model; None in a run that searched architectures."""
        return find_baseline(self.records)

    @cached_property
    def published(self) -> list[PublishedBaseline]:
        """Published models that the front is compared with."""
        return read_baselines(self.folder)

    @property
    def shown(self) -> list[Record]:
        """The front; where there is none, the model of a run that trained a single one."""
        return self.front or ([self.baseline] if self.baseline else [])

    @property
    def comparisons(self) -> list[str]:
        """One sentence for each published model: whether a member is more accurate and faster."""
        return [describe_comparison(baseline, self.shown) for baseline in self.published]

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.folder.path.name

    @property
    def is_synthetic(self) -> bool:
        """Whether the faces are drawn by code."""
        return is_synthetic(self.data, self.config.search.dataset)


def format_accuracy(record: Record) -> str:
    """Accuracy in percent, or "no accuracy"."""
    return f"{record.score.accuracy:.1%}" if record.score else "no accuracy"


def format_latency(latency: Latency | None) -> str:
    """Latency in ms, or "no latency"."""
    return f"{latency.latency_ms:.3g} ms" if latency else "no latency"
