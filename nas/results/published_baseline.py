"""Published baseline: a model from elsewhere, scored on a run's validation split and timed for its target.

baselines.json in the run folder holds an entry for each file and target. A file is known by its digest, so one that
has changed is scored again.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache

from pydantic import TypeAdapter

from nas.errors import CandidateError, ConfigError
from nas.latency.latency import Latency
from nas.metrics import Score
from nas.results.run_folder import RunFolder

BASELINES_FILE = "baselines.json"


@dataclass(frozen=True, kw_only=True)
class PublishedBaseline:
    """Figures of one ONNX file from elsewhere.

    Attributes:
        name: for tables.
        path: the file, absolute.
        sha256: digest of the file, and of the files that hold its weights where it has such.
        target: the target that it was timed for.
        score: on the selection split of the run.
        accuracy_split: name of that split.
        latency: on the target, measured or predicted; of one image, in the file's own input size.
        host: measured on this machine where the target is another; None otherwise.
        params: stored weights; None where the file's costs cannot be read.
        macs: multiply-accumulates for one image; None as above.
        size_bytes: of the file and of the files that hold its weights.
        notes: how its classes and pixels were matched, one sentence each.
        finished: UTC, ISO 8601.
    """

    name: str
    path: str
    sha256: str
    target: str
    score: Score
    accuracy_split: str
    latency: Latency
    host: Latency | None = None
    params: int | None = None
    macs: int | None = None
    size_bytes: int
    notes: tuple[str, ...] = ()
    finished: str = ""

    @property
    def key(self) -> str:
        """The entry in baselines.json."""
        return baseline_key(self.sha256, self.target)

    @property
    def measured(self) -> Latency | None:
        """Latency measured on this machine; None for a board over ssh."""
        return self.host or (self.latency if self.latency.kind == "measured" else None)


def baseline_key(sha256: str, target: str) -> str:
    """The entry of a file and a target in baselines.json."""
    return f"{sha256} {target}"


def read_baselines(folder: RunFolder) -> list[PublishedBaseline]:
    """The baselines of a run for its target, in the order they were added.

    Raises:
        ConfigError: baselines.json is damaged.
    """
    target = folder.config.search.target
    return [baseline for baseline in _read_all(folder) if baseline.target == target]


def add_baselines(folder: RunFolder, baselines: Iterable[PublishedBaseline]) -> None:
    """Write baselines into a run. Each replaces that of the same file, and that of the same path and target.

    Raises:
        ConfigError: baselines.json is damaged.
    """
    entries = {baseline.key: baseline for baseline in _read_all(folder)}
    for new in baselines:
        outdated = [key for key, old in entries.items() if (old.path, old.target) == (new.path, new.target)]
        for key in outdated:
            if key != new.key:
                del entries[key]
        entries[new.key] = new
    stored = {key: asdict(baseline) for key, baseline in entries.items()}
    folder.write(BASELINES_FILE, json.dumps(stored, indent=1) + "\n")


def _read_all(folder: RunFolder) -> list[PublishedBaseline]:
    try:
        stored = folder.read_json(BASELINES_FILE, dict[str, PublishedBaseline])
        return list(_form().validate_json(json.dumps(stored), strict=True).values())
    except CandidateError as error:  # of a number
        raise ConfigError(
            f"{folder.path / BASELINES_FILE} must be as it was written, but {error}; remove the file, and name the "
            "baselines again"
        ) from None


@cache
def _form() -> TypeAdapter[dict[str, PublishedBaseline]]:
    return TypeAdapter(dict[str, PublishedBaseline])
