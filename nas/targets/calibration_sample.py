"""The nets that a calibration measures: a few drawn as a search draws, the others as far from each other as can be.

The first tell how good the model is and must be usual ones; the model itself learns more from corners than from the
crowd in the middle. So of a larger draw those are taken that lie farthest from each other (Gonzalez, Theoretical
Computer Science 38, 1985, https://doi.org/10.1016/0304-3975(85)90224-5). Every second net has one bit-width
throughout, by turns: the others mix them, and prices of one width are told apart by nets that hold no other.
"""

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.candidate import Candidate
from nas.compression.pipeline import CompressionPipeline
from nas.config import CompressionFields
from nas.errors import CandidateError, ConfigError
from nas.latency.costs import Costs
from nas.latency.predicted.cost_columns import columns_for
from nas.targets.random_models import export_untrained, random_candidate, with_uniform_bits

POOL_FACTOR = 2  # nets drawn for each that is measured for its place
PROGRESS_INTERVAL = 10  # nets written between two lines of progress
MAX_DUPLICATE_DRAWS = 200  # draws in a row without a new net, after which a space counts as exhausted

Floats = npt.NDArray[np.float64]
Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class CalibrationCandidates:
    """Draws candidates of search spaces for a target, and writes them as untrained files.

    Attributes:
        profile: of the target.
        spaces: words of the spaces, taken in turn.
        input_shape: (C, H, W) of the nets' input.
    """

    profile: HardwareProfile
    spaces: tuple[str, ...]
    input_shape: Shape

    def draw(self, n_models: int, seed: int) -> list[Candidate]:
        """So many different candidates whose files can be written.

        Raises:
            ConfigError: the spaces do not hold as many for this target.
        """
        generator, compression = random.Random(seed), self._compression()  # noqa: S311
        found: dict[str, Candidate] = {}
        turn = vain = 0
        while len(found) < n_models:
            space = registry.load("space", self.spaces[turn % len(self.spaces)])
            candidate = random_candidate(space, compression, generator)
            round_ = turn // len(self.spaces)
            if round_ % 2:
                bits = self.profile.precisions[round_ // 2 % len(self.profile.precisions)]
                candidate = with_uniform_bits(candidate, bits)
            turn, vain = turn + 1, vain + 1
            if vain > MAX_DUPLICATE_DRAWS:
                raise ConfigError(
                    f"{n_models} different nets must be drawn, but {', '.join(self.spaces)} gave {len(found)}; "
                    "ask for fewer, or name another --space"
                )
            if candidate.key not in found:
                found[candidate.key], vain = candidate, 0
        return list(found.values())

    def export(self, candidate: Candidate, folder: Path) -> tuple[Path, Costs]:
        """The candidate's file, and what it costs.

        Raises:
            CandidateError: it cannot be built or exported.
        """
        path = folder / f"{candidate.key}.onnx"
        counted = export_untrained(
            candidate, path, space=registry.load("space", candidate.space), compression=self._compression(),
            input_shape=self.input_shape,
        )  # fmt: skip
        return path, counted

    def select(
        self, n_held_out: int, n_training: int, seed: int, log: Callable[[str], None]
    ) -> tuple[list[Candidate], list[Candidate]]:
        """`n_held_out` candidates as drawn, and `n_training` others that lie far from each other.

        Candidates whose files cannot be written are left out, as a search leaves them out. Where fewer than `n_training`
        others are left, something is wrong with more than the candidates.

        Raises:
            ConfigError: the spaces do not hold as many for this target, or too many of them cannot be written.
        """
        drawn = self.draw(n_held_out + POOL_FACTOR * n_training, seed)
        kept, counted, reasons = [], [], []
        with tempfile.TemporaryDirectory(prefix="fer-nas-") as place:
            for number, candidate in enumerate(drawn[n_held_out:], 1):
                try:
                    path, costs = self.export(candidate, Path(place))
                    path.unlink()
                    kept.append(candidate)
                    counted.append(costs)
                except CandidateError as error:
                    reasons.append(str(error))
                if number % PROGRESS_INTERVAL == 0:
                    log(f"{number} of {POOL_FACTOR * n_training} nets written to choose {n_training} of them")
        if len(kept) < n_training:
            raise ConfigError(
                f"{n_training} of {POOL_FACTOR * n_training} nets must be written, but {len(kept)} could: {reasons[-1]}; "
                "name another --space"
            )
        far = farthest_first(cost_features(counted, self.profile), n_training)
        return drawn[:n_held_out], [kept[i] for i in far]

    def _compression(self) -> CompressionPipeline:
        members = [registry.load("compressor", w) for w in CompressionFields.model_fields["compressors"].default]
        return CompressionPipeline(compressors=members, profile=self.profile)


def cost_features(model_costs: Sequence[Costs], profile: HardwareProfile) -> Floats:
    """[n, d] Logarithms of what each net has of every cost, each column of unit spread."""
    columns = columns_for(profile).design_matrix([net.kernels for net in model_costs])
    logs = np.log1p(columns / np.maximum(columns.mean(axis=0), 1e-12))
    found: Floats = logs / np.maximum(logs.std(axis=0), 1e-12)
    return found


def farthest_first(points: Floats, n_points: int) -> list[int]:
    """Rows of `points` [n, d] that lie far from each other: the one farthest from the mean, then always the farthest.

    Returns:
        `n_points` different rows, or all where there are fewer.
    """
    if not len(points):
        return []
    chosen = [int(np.argmax(((points - points.mean(axis=0)) ** 2).sum(axis=1)))]
    gap = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(n_points, len(points)):
        gap[chosen] = -1.0
        chosen.append(int(np.argmax(gap)))
        gap = np.minimum(gap, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return chosen
