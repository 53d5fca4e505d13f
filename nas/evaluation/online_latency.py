"""What a search learns of its target while it measures there, so that the device need not time every candidate.

Each net that the device timed is a sample; from ten on, a roofline is learned from them (`nas.latency.predicted.learned_roofline`) and
again with every fifth measurement. A net that was timed untrained and again when finished is one sample: as two, it
would be held out and learned at once, and the model would be far too sure of itself. Where it is sure of a candidate
its word is enough; where it is not, or the candidate would enter the front, the device is asked, and the answer is a
further sample.
"""

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from hw_profiles._base import HardwareProfile
from nas.errors import ConfigError
from nas.intervals import Z_95
from nas.latency.costs import Costs, Kernel
from nas.latency.estimate import Measurement
from nas.latency.predicted.learned_roofline import LearnedRoofline, learn
from nas.results.run_folder import RunFolder

SAMPLES = "latencies.jsonl"
LEAST = 10
"""Nets that are learned from, at least."""
EVERY = 5
"""Measurements after which it is learned again."""
UNSURE = 0.10
"""Standard error of a prediction, as a share of it, above which the device is asked."""


@dataclass(frozen=True, kw_only=True)
class Screen:
    """The samples of a run, and what was learned from them. They lie in the run's folder, for all of its processes.

    Attributes:
        folder: of the run.
        profile: of the target.
    """

    folder: RunFolder
    profile: HardwareProfile

    def add(self, key: str, counted: Costs, found: Measurement) -> None:
        """Keep what the device took for a net."""
        line = {"key": key, "latency_ms": found.latency_ms, "costs": asdict(counted)}
        self.folder.append_line(SAMPLES, json.dumps(line))

    def predict(self, counted: Costs) -> Measurement | None:
        """What the model says of a net; None as long as there are too few samples to learn from."""
        model = self.model
        return model.predict(counted) if model else None

    @property
    def model(self) -> LearnedRoofline | None:
        """What was learned from the samples so far; None where there are too few."""
        lines = self.folder.lines(SAMPLES)
        count = len(lines) // EVERY * EVERY
        return _learned(self.folder.path, count, self.profile.name, self) if count >= LEAST else None

    def __hash__(self) -> int:
        return hash(self.folder.path)


def is_sure(predicted: Measurement) -> bool:
    """Whether a prediction's standard error is at most `UNSURE`, by its own interval."""
    half = (predicted.high_ms - predicted.low_ms) / 2
    return half / Z_95 <= UNSURE * predicted.latency_ms


@functools.lru_cache(maxsize=4)
def _learned(_path: Path, count: int, _target: str, screen: Screen) -> LearnedRoofline | None:
    """The model of the first `count` measurements; None where they are of too few nets, which only costs more."""
    latencies: dict[tuple[Kernel, ...], list[float]] = {}
    nets: dict[tuple[Kernel, ...], Costs] = {}
    for line in map(json.loads, screen.folder.lines(SAMPLES)[:count]):
        net = Costs.from_dict(line["costs"])
        nets.setdefault(net.kernels, net)
        latencies.setdefault(net.kernels, []).append(line["latency_ms"])
    if len(nets) < LEAST:
        return None
    try:
        return learn(list(nets.values()), [median(times) for times in latencies.values()], screen.profile)
    except ConfigError:
        return None
