"""Calibration sample: the candidates that a calibration measures.

Two parts:

- Held-out candidates are drawn as a search draws them. They estimate the error of the model on ordinary networks.
- Training candidates lie as far from each other as possible, because extremes constrain a model more than the crowd in
  the middle. They are selected from a larger draw by farthest-first traversal (Gonzalez, Theoretical Computer
  Science 38, 1985, https://doi.org/10.1016/0304-3975(85)90224-5).

Every second network has one bit-width throughout, each width in turn; the others mix them. Costs of one width are
identified only by networks that hold no other.
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
from nas.targets.random_candidates import export_untrained, random_candidate, with_uniform_bits

POOL_FACTOR = 2  # candidates drawn per training candidate
PROGRESS_INTERVAL = 10  # files exported between two lines of progress
MAX_DUPLICATE_DRAWS = 200  # consecutive draws without a new candidate after which a space counts as exhausted

Floats = npt.NDArray[np.float64]
Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class CalibrationCandidates:
    """Draws candidates of search spaces for a target, and exports them untrained.

    Attributes:
        profile: of the target.
        spaces: words of the spaces, taken in turn.
        input_shape: (C, H, W) of the networks' input.
    """

    profile: HardwareProfile
    spaces: tuple[str, ...]
    input_shape: Shape

    def draw(self, n_models: int, seed: int) -> list[Candidate]:
        """Distinct random candidates.

        Args:
            n_models: number of candidates.
            seed: of the draw.

        Raises:
            ConfigError: the spaces hold fewer for this target.
        """
        generator, compression = random.Random(seed), self._compression()  # noqa: S311
        drawn: dict[str, Candidate] = {}
        turn = n_duplicates = 0
        while len(drawn) < n_models:
            space = registry.load("space", self.spaces[turn % len(self.spaces)])
            candidate = random_candidate(space, compression, generator)
            round_ = turn // len(self.spaces)
            if round_ % 2:
                bits = self.profile.precisions[round_ // 2 % len(self.profile.precisions)]
                candidate = with_uniform_bits(candidate, bits)
            turn, n_duplicates = turn + 1, n_duplicates + 1
            if n_duplicates > MAX_DUPLICATE_DRAWS:
                raise ConfigError(
                    f"{n_models} different networks must be drawn, but {', '.join(self.spaces)} gave {len(drawn)}; "
                    "ask for fewer, or name another --space"
                )
            if candidate.key not in drawn:
                drawn[candidate.key], n_duplicates = candidate, 0
        return list(drawn.values())

    def export(self, candidate: Candidate, folder: Path) -> tuple[Path, Costs]:
        """Export a candidate untrained; returns its file and the costs of the file.

        Raises:
            CandidateError: it cannot be built or exported.
        """
        path = folder / f"{candidate.key}.onnx"
        costs = export_untrained(
            candidate, path, space=registry.load("space", candidate.space), compression=self._compression(),
            input_shape=self.input_shape,
        )  # fmt: skip
        return path, costs

    def select(
        self, n_held_out: int, n_training: int, seed: int, log: Callable[[str], None]
    ) -> tuple[list[Candidate], list[Candidate]]:
        """Choose the candidates to measure.

        Candidates that cannot be exported are left out, as a search leaves them out. If too many are, the fault is not
        in the candidates, and an error is raised.

        Args:
            n_held_out: number of held-out candidates.
            n_training: number of training candidates.
            seed: of the draw.
            log: receives progress.

        Returns:
            The held-out candidates, as drawn, and the training candidates, which lie far from each other.

        Raises:
            ConfigError: the spaces hold too few for this target, or too few of them can be exported.
        """
        n_pool = POOL_FACTOR * n_training
        drawn = self.draw(n_held_out + n_pool, seed)
        exported, costs, reasons = [], [], []
        with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
            for number, candidate in enumerate(drawn[n_held_out:], 1):
                try:
                    path, file_costs = self.export(candidate, Path(folder))
                    path.unlink()
                    exported.append(candidate)
                    costs.append(file_costs)
                except CandidateError as error:
                    reasons.append(str(error))
                if number % PROGRESS_INTERVAL == 0:
                    log(f"{number} of {n_pool} networks exported to choose {n_training} of them")
        if len(exported) < n_training:
            raise ConfigError(
                f"{n_training} of {n_pool} networks must be exported, but only {len(exported)} could: {reasons[-1]}; "
                "name another --space"
            )
        chosen = farthest_first(cost_features(costs, self.profile), n_training)
        return drawn[:n_held_out], [exported[i] for i in chosen]

    def _compression(self) -> CompressionPipeline:
        members = [registry.load("compressor", word) for word in CompressionFields().compressors]
        return CompressionPipeline(compressors=members, profile=self.profile)


def cost_features(model_costs: Sequence[Costs], profile: HardwareProfile) -> Floats:
    """[n, d] Logarithm of each cost of each file, scaled to unit standard deviation per column."""
    columns = columns_for(profile).design_matrix([costs.kernels for costs in model_costs])
    # Relative to the mean, so that log1p is neither linear nor unbounded below for costs that a file lacks (0). The
    # bounds of 1e-12 keep columns that are zero or constant finite: they become 0, and count for no distance.
    logs = np.log1p(columns / np.maximum(columns.mean(axis=0), 1e-12))
    features: Floats = logs / np.maximum(logs.std(axis=0), 1e-12)
    return features


def farthest_first(points: Floats, n_points: int) -> list[int]:
    """Rows of `points` [n, d] far from each other: the farthest from the mean, then the farthest from those chosen.

    Ties: the first. Squared Euclidean distances; their order is that of the distances.

    Returns:
        `n_points` distinct rows, or all where there are fewer.
    """
    if not len(points):
        return []
    chosen = [int(np.argmax(((points - points.mean(axis=0)) ** 2).sum(axis=1)))]
    gap = ((points - points[chosen[0]]) ** 2).sum(axis=1)  # from each point to the nearest chosen one
    while len(chosen) < min(n_points, len(points)):
        gap[chosen] = -1.0  # below every distance, so that equal points do not choose one twice
        chosen.append(int(np.argmax(gap)))
        gap = np.minimum(gap, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return chosen
