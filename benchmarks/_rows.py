"""A table of some candidates of a space as a search problem: samplers ask in the space, the nearest row is evaluated.

Most points of the space are not in the table, so every sampler is wrapped in `NearestRowSampler`: what it proposes is replaced by
the nearest row that was not asked before, and that row's genes are what it is told and learns from. Nearest by the mean
over genes of 1 where a category differs, and of the difference in rank over the number of options where a number does
(Gower 1971, https://doi.org/10.2307/2528823); ties go to the first row. So nothing is ever repeated, and after as many
trials as there are rows all samplers have found the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from benchmarks.fer_table import GENE
from nas.pareto import hypervolume
from nas.searcher.study import to_distribution
from search_spaces._base import Choice

FloatArray = npt.NDArray[np.float64]
Configurations = Sequence[Mapping[str, Any]]
MAXIMIZE = (True, False)


@dataclass(frozen=True)
class CandidateTable:
    """The table.

    Attributes:
        options: each gene that varies to the values that occur, ascending.
        space: the same as a search has them: evenly spaced numbers as a range, all else as categories.
        picks: the genes of each row.
        codes: [n, g] index of each row's options.
        values: [n, 2] accuracy (more is better) and latency (less is better).
        facts: [n, d] what is known of a row before training besides its latency: size, parameters, MACs; logarithms.
        reference: worst accuracy and worst latency of all rows.
        volume: hypervolume of all rows.
    """

    options: dict[str, list[Any]]
    space: dict[str, BaseDistribution]
    configurations: list[dict[str, Any]]
    codes: npt.NDArray[np.int64]
    values: FloatArray
    known_features: FloatArray
    ref_point: tuple[float, float]
    max_hypervolume: float

    def hypervolume_share(self, rows: Sequence[int]) -> float:
        """Share of the table's hypervolume that these rows reach, 0..1."""
        return self.hypervolume_share_of(self.values[list(rows)])

    def hypervolume_share_of(self, values: FloatArray) -> float:
        """The same for values [n, 2]."""
        return hypervolume(values, self.ref_point, MAXIMIZE) / self.max_hypervolume

    def distances(self, picks: Configurations) -> FloatArray:
        """How far each row is from each pick, [k, n], 0..1."""
        listed = [[_option_index(options, p[gene]) for gene, options in self.options.items()] for p in picks]
        codes = np.array(listed, dtype=np.int64).reshape(len(picks), len(self.options))
        apart = np.abs(self.codes[None] - codes[:, None])  # [k, n, g]
        ordered = np.array([not isinstance(options[0], str) for options in self.options.values()])
        sizes = np.array([len(options) for options in self.options.values()])
        return np.where(ordered, apart / sizes, apart > 0).mean(axis=2)

    def nearest(self, picks: Configurations) -> list[int]:
        """The row nearest to each pick; to a row's own genes, that row."""
        return self.distances(picks).argmin(axis=1).tolist()

    def sampler_context(self) -> dict[str, Any]:
        """What may be known before training, for `ScreenedSampler`: of a pick, what is known of the nearest row."""

        def cheap(picks: Configurations) -> FloatArray:
            return np.stack([np.full(len(picks), np.nan), self.values[self.nearest(picks), 1]], axis=1)

        return {
            "known_objectives": cheap,
            "features": lambda picks: self.known_features[self.nearest(picks)],
            "identity": self.nearest,
        }


def read_table(path: Path, accuracy: str, latency: str) -> CandidateTable:
    """The table in a CSV with columns `gene.NAME`; rows of the same genes are one, the first.

    Raises:
        SystemExit: a column is missing, or no gene varies.
    """
    frame = pd.read_csv(path, keep_default_na=False)  # "None" is an option, no missing value
    genes = [c for c in frame if str(c).startswith(GENE) and frame[c].nunique() > 1]
    if missing := [c for c in (accuracy, latency) if c not in frame]:
        raise SystemExit(f"{path} must have the columns {', '.join(missing)}, but has {', '.join(map(str, frame))}")
    if not genes:
        raise SystemExit(f"{path} must have columns {GENE}NAME that vary, as benchmarks.fer_table makes them")
    frame = frame.drop_duplicates(genes).reset_index(drop=True)
    columns = {c.removeprefix(GENE): frame[c].tolist() for c in genes}
    options = {name: sorted(set(values)) for name, values in columns.items()}
    space = {name: to_distribution(Choice(name=name, options=tuple(o))) for name, o in options.items()}
    picks = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    codes = np.array([[options[n].index(v) for n, v in p.items()] for p in picks])
    values = frame[[accuracy, latency]].to_numpy(dtype=np.float64)
    known = frame[[c for c in ("size_bytes", "params", "macs") if c in frame]].to_numpy(dtype=np.float64)
    reference = (float(values[:, 0].min()), float(values[:, 1].max()))
    volume = hypervolume(values, reference, MAXIMIZE)
    return CandidateTable(options, space, picks, codes, values, np.log(known), reference, volume)


class NearestRowSampler(BaseSampler):
    """A sampler whose proposals are replaced by the nearest row that was not asked.

    Args:
        inner: proposes; sees the rows' genes as its own picks.
        rows: the table.
    """

    def __init__(self, inner: BaseSampler, rows: CandidateTable) -> None:
        self._inner, self._rows = inner, rows

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space: all genes of a row come together."""
        return self._rows.space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The genes of the nearest new row; of the nearest row once all were asked."""
        inner, space = self._inner, self._inner.infer_relative_search_space(study, trial)
        picked = dict(inner.sample_relative(study, trial, space))
        for name in [n for n in search_space if n not in picked]:
            picked[name] = inner.sample_independent(study, trial, name, search_space[name])
        distances = self._rows.distances([picked])[0]
        asked = [old.params for old in study.get_trials(deepcopy=False) if old.number != trial.number]
        distances[self._rows.nearest(asked)] += 1.0  # more than any two points are apart
        return self._rows.configurations[int(distances.argmin())]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never asked for here, since the space is given whole."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Handed on."""
        self._inner.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        """Handed on."""
        self._inner.after_trial(study, trial, state, values)


def _option_index(options: list[Any], value: Any) -> int:
    """Where a value stands among the options; of a number between two, the nearer."""
    if isinstance(value, str):
        return options.index(value)
    return min(range(len(options)), key=lambda i: abs(options[i] - value))
