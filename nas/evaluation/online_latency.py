"""Online latency model: fitted during a search to its own measurements on the target device.

It saves measurements on a slow device. Each network that the device timed is a sample. From 10 samples on, a roofline
is fitted to them (`nas.latency.predicted.learned_roofline`), and again after every 5 further ones. A network that was
timed untrained and again when finished is one sample: as two it would be trained on and held out at once, and the
estimated error would be far too small. Where the prediction is certain it replaces the measurement; where it is not, or
where the candidate would enter the front, the device measures, which adds a sample.

    runs/NAME/latencies.jsonl    one line for each measurement: key, latency_ms, costs
"""

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

from pydantic import BaseModel, Field

from hw_profiles._base import HardwareProfile
from nas.errors import ConfigError
from nas.intervals import Z_95
from nas.latency.costs import Costs, Kernel
from nas.latency.latency import Latency
from nas.latency.predicted.learned_roofline import LearnedRoofline, fit_learned_roofline
from nas.results.run_folder import RunFolder

SAMPLES_FILE = "latencies.jsonl"
MIN_SAMPLES = 10
"""Smallest number of different networks to fit."""
REFIT_EVERY = 5
"""Measurements between two fits."""
MAX_RELATIVE_ERROR = 0.10
"""Standard error of a prediction, as a share of it, above which the device measures."""


class _Sample(BaseModel):
    """Form of a line of latencies.jsonl."""

    key: str
    latency_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    costs: Costs


@dataclass(frozen=True, kw_only=True)
class OnlineLatencyModel:
    """Samples of a run, and the model that is fitted to them. All processes of a run share the samples.

    Attributes:
        folder: of the run.
        profile: hardware profile of the target.
    """

    folder: RunFolder
    profile: HardwareProfile

    def add(self, key: str, file_costs: Costs, latency: Latency) -> None:
        """Append one measurement of the device."""
        line = {"key": key, "latency_ms": latency.latency_ms, "costs": asdict(file_costs)}
        self.folder.append_line(SAMPLES_FILE, json.dumps(line))

    def predict(self, file_costs: Costs) -> Latency | None:
        """Predicted latency of a file; None as long as there are too few samples to fit."""
        model = self.model
        return model.predict(file_costs) if model else None

    @property
    def model(self) -> LearnedRoofline | None:
        """The model fitted to the samples so far; None where there are too few."""
        lines = self.folder.json_lines(SAMPLES_FILE, _Sample)
        count = len(lines) // REFIT_EVERY * REFIT_EVERY
        return _fit_model(self.folder.path, count, self.profile.name, self) if count >= MIN_SAMPLES else None

    def __hash__(self) -> int:
        return hash(self.folder.path)


def is_confident(predicted: Latency) -> bool:
    """Whether the standard error of a prediction, by its 95 % interval, is at most `MAX_RELATIVE_ERROR` of it."""
    half_width = (predicted.high_ms - predicted.low_ms) / 2
    return half_width / Z_95 <= MAX_RELATIVE_ERROR * predicted.latency_ms


@functools.lru_cache(maxsize=4)
def _fit_model(_path: Path, count: int, _target: str, online_model: OnlineLatencyModel) -> LearnedRoofline | None:
    """The model of the first `count` measurements; None where they are of too few networks, or do not determine it."""
    latencies: dict[tuple[Kernel, ...], list[float]] = {}
    nets: dict[tuple[Kernel, ...], Costs] = {}
    # Files with equal kernels, an untrained and a finished one, are one sample with the median of their latencies.
    for line in online_model.folder.json_lines(SAMPLES_FILE, _Sample)[:count]:
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
