"""Genes as numbers: an Optuna search space as a grid of codes, and codes as features that a model can learn from.

A code is the index of an option. Categories keep their options, numbers with a step their grid; a range without a step
is cut into `MAX_LEVELS` values, evenly or, if its distribution is logarithmic, by equal factors.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_LEVELS = 64
"""Options of a range without a step, and most options of any range."""


class GeneEncoding:
    """A flat search space as genes with numbered options.

    Args:
        space: name to distribution, at least one.

    Attributes:
        names: the genes, in the order of `space`.
        sizes: [g] int, number of options of each gene, 1 or more.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.names = tuple(space)
        self._distributions = dict(space)
        self._options = [_enumerate_options(d) for d in space.values()]
        self.n_options: Codes = np.array([len(o) for o in self._options], dtype=np.int64)
        self._code_by_key = [{_lookup_key(v): i for i, v in reversed(list(enumerate(o)))} for o in self._options]
        self._ordinals = [_ordinal_positions(o) for o in self._options]
        # Most values are found as they are. True equals 1 for a dictionary, so a mixture is always looked up slowly.
        self._get_values = itemgetter(*self.names)
        exact = [{v: i for i, v in enumerate(o)} for o in self._options]
        self._code_by_value = [
            (n, d if len(d) == len(o) else {}) for n, d, o in zip(space, exact, self._options, strict=True)
        ]

    @property
    def n_points(self) -> float:
        """Number of points of the space; infinite where a float cannot hold it."""
        return float(np.prod(self.n_options.astype(np.float64)))

    def decode(self, codes: Codes) -> list[dict[str, Any]]:
        """Codes [n, g] as one mapping from name to value for each row."""
        return [{n: o[c] for n, o, c in zip(self.names, self._options, row, strict=True)} for row in codes.tolist()]

    def encode(self, picked: Mapping[str, Any]) -> Codes | None:
        """The codes [g] of a pick; None if a gene is missing or cannot hold its value."""
        try:
            found = [exact.get(picked[name]) for name, exact in self._code_by_value]
        except KeyError:
            return None
        if None in found:
            found = [
                self._nearest_code(i, picked[n]) if c is None else c
                for i, (n, c) in enumerate(zip(self.names, found, strict=True))
            ]
        return None if None in found else np.array(found, dtype=np.int64)

    def encode_all(self, picks: Sequence[Mapping[str, Any]]) -> tuple[Codes, npt.NDArray[np.int64]]:
        """What `codes` gives for many picks, quicker: codes [k, g] of those that have any, and which [k] those are."""
        values, rows = [], []
        for row, picked in enumerate(picks):
            try:
                values.append(
                    [picked[name] for name in self.names] if len(self.names) < 2 else self._get_values(picked)
                )
            except KeyError:
                continue
            rows.append(row)
        columns = zip([exact for _, exact in self._code_by_value], zip(*values, strict=True), strict=False)
        found = [[*map(exact.get, column, repeat(-1))] for exact, column in columns]
        codes = np.array(found, dtype=np.int64).reshape(len(self.names), len(values)).T
        kept = np.ones(len(rows), dtype=bool)
        for i in np.flatnonzero((codes < 0).any(axis=1)):
            slow = self.encode(picks[rows[i]])
            kept[i] = slow is not None
            codes[i] = 0 if slow is None else slow
        return codes[kept], np.array(rows, dtype=np.int64)[kept]

    def _nearest_code(self, position: int, value: Any) -> int | None:
        """The code of a value that a storage may have rounded, or that lies between the options of a range."""
        code = self._code_by_key[position].get(_lookup_key(value))
        if code is not None or isinstance(self._distributions[self.names[position]], CategoricalDistribution):
            return code
        return int(np.abs(np.array(self._options[position], dtype=float) - float(value)).argmin())

    def fixed_codes(self, picked: Mapping[str, Any]) -> dict[int, int]:
        """Position of a gene to its code, for those genes of `picked` that hold one of their options."""
        positions = {n: i for i, n in enumerate(self.names)}
        known = {n: self._code_by_key[positions[n]].get(_lookup_key(v)) for n, v in picked.items() if n in positions}
        return {positions[n]: c for n, c in known.items() if c is not None}

    def sample(self, n: int, rng: np.random.Generator) -> Codes:
        """Uniform codes [n, g]."""
        return rng.integers(0, self.n_options, size=(n, len(self.n_options)))

    def all_codes(self) -> Codes:
        """Every point of the space, codes [total, g]."""
        return np.indices(tuple(self.n_options)).reshape(len(self.n_options), -1).T.astype(np.int64)

    def features(self, codes: Codes) -> Floats:
        """Features [n, d] of codes [n, g]: the position 0..1 of genes that have an order, indicators of the others.

        A category whose options are all numbers gets both.
        """
        columns = []
        for i, (options, numbers) in enumerate(zip(self._options, self._ordinals, strict=True)):
            column = codes[:, i]
            if len(options) == 1:
                continue
            if numbers is not None:
                columns.append(numbers[column][:, None])
            if isinstance(self._distributions[self.names[i]], CategoricalDistribution) and len(options) > 2:
                columns.append(np.sqrt(0.5) * (column[:, None] == np.arange(len(options))))
            elif numbers is None:
                columns.append(column[:, None].astype(np.float64))
        return np.concatenate(columns, axis=1) if columns else np.zeros((len(codes), 1))


def as_bytes(codes: Codes) -> list[bytes]:
    """Each row of codes [n, g] as bytes, which can be hashed."""
    whole, width = np.ascontiguousarray(codes).tobytes(), codes.shape[1] * codes.itemsize
    return [whole[i : i + width] for i in range(0, len(whole), width)]


def _enumerate_options(distribution: BaseDistribution) -> Sequence[Any]:
    """The options of a gene, plain Python values."""
    match distribution:
        case CategoricalDistribution():
            return list(distribution.choices)
        case IntDistribution() if not distribution.log:
            count = (distribution.high - distribution.low) // distribution.step + 1
            kept = np.unique(np.linspace(0, count - 1, min(count, MAX_LEVELS)).round().astype(int))
            return [distribution.low + distribution.step * int(k) for k in kept]
        case FloatDistribution() if distribution.step is not None:
            count = round((distribution.high - distribution.low) / distribution.step) + 1
            kept = np.unique(np.linspace(0, count - 1, min(count, MAX_LEVELS)).round().astype(int))
            return [min(distribution.high, distribution.low + distribution.step * int(k)) for k in kept]
        case IntDistribution():
            levels = np.geomspace(distribution.low, distribution.high, MAX_LEVELS).round().astype(int)
            return [int(v) for v in np.unique(levels)]
        case FloatDistribution():
            space = np.geomspace if distribution.log else np.linspace
            levels = np.clip(
                space(distribution.low, distribution.high, MAX_LEVELS), distribution.low, distribution.high
            )
            return [float(v) for v in np.unique(levels)]
        case _:
            raise TypeError(f"a distribution must be categorical, int or float, but got {distribution!r}")


def _ordinal_positions(options: Sequence[Any]) -> Floats | None:
    """Where each option stands in the order of all, 0..1; None if they have no order."""
    if not all(isinstance(o, int | float) and not isinstance(o, bool) for o in options) or len(options) < 2:
        return None
    return np.argsort(np.argsort(np.array(options, dtype=float))) / (len(options) - 1)


def _lookup_key(value: Any) -> Any:
    """A key for a value: numbers to twelve digits, which survive a storage; truth values are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return (type(value).__name__, value)
    return float(f"{value:.12g}")
