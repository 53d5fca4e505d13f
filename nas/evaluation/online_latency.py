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
from nas.latency.estimate import Latency
from nas.latency.predicted.learned_roofline import LearnedRoofline, fit_learned_roofline
from nas.results.run_folder import RunFolder

SAMPLES_FILE = "latencies.jsonl"
MIN_SAMPLES = 10
"""Nets that are learned from, at least."""
REFIT_EVERY = 5
"""Measurements after which it is learned again."""
MAX_RELATIVE_ERROR = 0.10
"""Standard error of a prediction, as a share of it, above which the device is asked."""


@dataclass(frozen=True, kw_only=True)
class OnlineLatencyModel:
    """The samples of a run, and what was learned from them. They lie in the run's folder, for all of its processes.

    Attributes:
        folder: of the run.
        profile: of the target.
    """

    folder: RunFolder
    profile: HardwareProfile

    def add(self, key: str, file_costs: Costs, latency: Latency) -> None:
        """Keep what the device took for a net."""
        line = {"key": key, "latency_ms": latency.latency_ms, "costs": asdict(file_costs)}
        self.folder.append_line(SAMPLES_FILE, json.dumps(line))

    def predict(self, file_costs: Costs) -> Latency | None:
        """What the model says of a net; None as long as there are too few samples to learn from."""
        model = self.model
        return model.predict(file_costs) if model else None

    @property
    def model(self) -> LearnedRoofline | None:
        """What was learned from the samples so far; None where there are too few."""
        lines = self.folder.json_lines(SAMPLES_FILE)
        count = len(lines) // REFIT_EVERY * REFIT_EVERY
        return _fit_model(self.folder.path, count, self.profile.name, self) if count >= MIN_SAMPLES else None

    def __hash__(self) -> int:
        return hash(self.folder.path)


def is_confident(predicted: Latency) -> bool:
    """Whether a prediction's standard error is at most `UNSURE`, by its own interval."""
    half = (predicted.high_ms - predicted.low_ms) / 2
    return half / Z_95 <= MAX_RELATIVE_ERROR * predicted.latency_ms


@functools.lru_cache(maxsize=4)
def _fit_model(_path: Path, count: int, _target: str, online_model: OnlineLatencyModel) -> LearnedRoofline | None:
    """The model of the first `count` measurements; None where they are of too few nets, which only costs more."""
    latencies: dict[tuple[Kernel, ...], list[float]] = {}
    nets: dict[tuple[Kernel, ...], Costs] = {}
    for line in online_model.folder.json_lines(SAMPLES_FILE)[:count]:
        net = Costs.from_dict(line["costs"])
        nets.setdefault(net.kernels, net)
        latencies.setdefault(net.kernels, []).append(line["latency_ms"])
    if len(nets) < MIN_SAMPLES:
        return None
    try:
        return fit_learned_roofline(
            list(nets.values()), [median(times) for times in latencies.values()], online_model.profile
        )
    except ConfigError:
        return None
