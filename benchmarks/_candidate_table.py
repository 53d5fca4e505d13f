"""A table of some candidates of a space as a search problem: a proposal is mapped to the nearest row.

Most points of the space are not in the table. `NearestRowSampler` therefore wraps every sampler: it replaces a proposal
by the nearest row that has not been evaluated, and the sampler is updated with that row's genes and values. The
distance is Gower's (1971, https://doi.org/10.2307/2528823): the mean over genes of 1 where categories differ, and of
the difference in rank divided by the number of options where numbers do. The first row wins ties. There are no
duplicates, and after as many trials as rows all samplers have found the same front.
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
    """A table of evaluated candidates.

    Attributes:
        options: values of each gene that varies, ascending.
        space: the same as distributions: evenly spaced numbers as a range, everything else as categories.
        configurations: genes of each row.
        codes: [n, g] index of each row's options.
        values: [n, 2] accuracy (maximised) and latency (minimised).
        known_features: [n, d] logarithms of the facts that are known before training besides latency: size, parameters,
            MACs.
        ref_point: lowest accuracy and highest latency of all rows.
        max_hypervolume: hypervolume of all rows.
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
        """Share 0..1 of the table's hypervolume that these rows dominate."""
        return self.hypervolume_share_of(self.values[list(rows)])

    def hypervolume_share_of(self, values: FloatArray) -> float:
        """The same for values [n, 2]."""
        return hypervolume(values, self.ref_point, MAXIMIZE) / self.max_hypervolume

    def distances(self, configurations: Configurations) -> FloatArray:
        """Distances [k, n], 0..1, of k configurations to the n rows."""
        indices = [[_option_index(options, p[gene]) for gene, options in self.options.items()] for p in configurations]
        codes = np.array(indices, dtype=np.int64).reshape(len(configurations), len(self.options))
        differences = np.abs(self.codes[None] - codes[:, None])  # [k, n, g]
        ordered = np.array([not isinstance(options[0], str) for options in self.options.values()])
        sizes = np.array([len(options) for options in self.options.values()])
        return np.where(ordered, differences / sizes, differences > 0).mean(axis=2)

    def nearest(self, configurations: Configurations) -> list[int]:
        """Index of the row nearest to each configuration; a row's own genes map to that row."""
        return self.distances(configurations).argmin(axis=1).tolist()

    def sampler_context(self) -> dict[str, Any]:
        """Keyword arguments of `ScreenedSampler`: what is known before training.

        A configuration that is not in the table has the facts of the nearest row.
        """

        def cheap(picks: Configurations) -> FloatArray:
            return np.stack([np.full(len(picks), np.nan), self.values[self.nearest(picks), 1]], axis=1)

        return {
            "known_objectives": cheap,
            "features": lambda picks: self.known_features[self.nearest(picks)],
            "identity": self.nearest,
        }


def read_table(path: Path, accuracy: str, latency: str) -> CandidateTable:
    """The table in a CSV with columns `gene.NAME`; of rows with the same genes only the first counts.

    Raises:
        SystemExit: a column is missing, or no gene varies.
    """
    frame = pd.read_csv(path, keep_default_na=False)  # "None" is the name of an option, not a missing value
    genes = [c for c in frame if str(c).startswith(GENE) and frame[c].nunique() > 1]
    if missing := [c for c in (accuracy, latency) if c not in frame]:
        raise SystemExit(f"{path} must have the columns {', '.join(missing)}, but has {', '.join(map(str, frame))}")
    if not genes:
        raise SystemExit(f"{path} must have columns {GENE}NAME that vary, as benchmarks.fer_table makes them")
    frame = frame.drop_duplicates(genes).reset_index(drop=True)
    columns = {c.removeprefix(GENE): frame[c].tolist() for c in genes}
    options = {name: sorted(set(values)) for name, values in columns.items()}
    space = {name: to_distribution(Choice(name=name, options=tuple(o))) for name, o in options.items()}
    configurations = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    codes = np.array([[options[n].index(v) for n, v in p.items()] for p in configurations])
    values = frame[[accuracy, latency]].to_numpy(dtype=np.float64)
    features = frame[[c for c in ("size_bytes", "params", "macs") if c in frame]].to_numpy(dtype=np.float64)
    reference = (float(values[:, 0].min()), float(values[:, 1].max()))
    volume = hypervolume(values, reference, MAXIMIZE)
    return CandidateTable(options, space, configurations, codes, values, np.log(features), reference, volume)


class NearestRowSampler(BaseSampler):
    """A sampler that replaces the proposals of another by the nearest row not evaluated yet.

    Args:
        inner: makes the proposals; its history consists of the rows' genes and values.
        rows: the table.
    """

    def __init__(self, inner: BaseSampler, rows: CandidateTable) -> None:
        self._inner, self._rows = inner, rows

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, since a row fixes all genes at once."""
        return self._rows.space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Genes of the nearest row not evaluated yet, or of the nearest one once all were."""
        inner, space = self._inner, self._inner.infer_relative_search_space(study, trial)
        proposal = dict(inner.sample_relative(study, trial, space))
        for name in [n for n in search_space if n not in proposal]:
            proposal[name] = inner.sample_independent(study, trial, name, search_space[name])
        distances = self._rows.distances([proposal])[0]
        evaluated = [other.params for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        distances[self._rows.nearest(evaluated)] += 1.0  # above the largest distance, which is 1
        return self._rows.configurations[int(distances.argmin())]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Unused, since the relative search space is the whole space."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Delegates."""
        self._inner.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        """Delegates."""
        self._inner.after_trial(study, trial, state, values)


def _option_index(options: list[Any], value: Any) -> int:
    """Index of a value among the options; a number between two options takes the nearer one."""
    if isinstance(value, str):
        return options.index(value)
    return min(range(len(options)), key=lambda i: abs(options[i] - value))
