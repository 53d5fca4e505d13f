"""Gene encoding: an Optuna search space as a grid of codes, and codes as features of a model.

A code is the index of an option. A categorical distribution keeps its choices, and a number with a step keeps its grid.
A range without a step is cut into `MAX_LEVELS` values: evenly or, if its distribution is logarithmic, by equal factors.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_LEVELS = 64
"""Options of a range without a step, and upper limit for ranges with one."""


class GeneEncoding:
    """Grid of a flat search space: each gene has numbered options.

    Args:
        space: name to distribution, at least one.

    Attributes:
        names: the genes, in the order of `space`.
        n_options: [g] number of options of each gene, 1 or more.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.names = tuple(space)
        self._distributions = dict(space)
        self._options = [_enumerate_options(d) for d in space.values()]
        self.n_options: Codes = np.array([len(o) for o in self._options], dtype=np.int64)
        self._code_by_key = [{_lookup_key(v): i for i, v in reversed(list(enumerate(o)))} for o in self._options]
        self._ordinals = [_ordinal_positions(o) for o in self._options]
        # Exact values take a plain dictionary, which is faster than `_lookup_key`. True == 1 as a
        # dictionary key, so a gene that mixes truth values with numbers has an empty one and always takes the slow way.
        self._get_values = itemgetter(*self.names)
        exact = [{v: i for i, v in enumerate(o)} for o in self._options]
        self._code_by_value = [
            (n, d if len(d) == len(o) else {}) for n, d, o in zip(space, exact, self._options, strict=True)
        ]

    @property
    def n_points(self) -> float:
        """Number of points of the space; infinite where it exceeds the range of a float."""
        return float(np.prod(self.n_options.astype(np.float64)))

    def decode(self, codes: Codes) -> list[dict[str, Any]]:
        """Params of each row of codes [n, g]."""
        return [{n: o[c] for n, o, c in zip(self.names, self._options, row, strict=True)} for row in codes.tolist()]

    def identities(
        self, codes: Codes, identity: Callable[[Sequence[Mapping[str, Any]]], Sequence[Any]] | None
    ) -> list[Any]:
        """[n] What `identity` gives for the params of codes [n, g]; without it, each point is itself."""
        return as_bytes(codes) if identity is None or not len(codes) else [*identity(self.decode(codes))]

    def encode(self, params: Mapping[str, Any]) -> Codes | None:
        """Codes [g] of one mapping from gene to value; None if a gene is missing or has no such option."""
        try:
            codes = [exact.get(params[name]) for name, exact in self._code_by_value]
        except KeyError:
            return None
        if None in codes:
            codes = [
                self._nearest_code(i, params[n]) if c is None else c
                for i, (n, c) in enumerate(zip(self.names, codes, strict=True))
            ]
        return None if None in codes else np.array(codes, dtype=np.int64)

    def encode_all(self, params_list: Sequence[Mapping[str, Any]]) -> tuple[Codes, npt.NDArray[np.int64]]:
        """Codes of many params, faster than `encode` on each.

        Returns:
            Codes [k, g] of the params that have a place in the space, and their rows [k] in `params_list`.
        """
        values, rows, is_single = [], [], len(self.names) < 2  # with one name, `itemgetter` gives no tuple
        for row, params in enumerate(params_list):
            try:
                values.append([params[self.names[0]]] if is_single else self._get_values(params))
            except KeyError:
                continue
            rows.append(row)
        # Gene by gene, so that the lookups run inside `map`; -1 marks a value that needs the slow way.
        columns = zip([exact for _, exact in self._code_by_value], zip(*values, strict=True), strict=False)
        found = [[*map(exact.get, column, repeat(-1))] for exact, column in columns]
        codes = np.array(found, dtype=np.int64).reshape(len(self.names), len(values)).T
        has_place = np.ones(len(rows), dtype=bool)
        for i in np.flatnonzero((codes < 0).any(axis=1)):
            slow = self.encode(params_list[rows[i]])
            has_place[i] = slow is not None
            codes[i] = 0 if slow is None else slow
        return codes[has_place], np.array(rows, dtype=np.int64)[has_place]

    def _nearest_code(self, position: int, value: Any) -> int | None:
        """The code of a value that a storage has rounded, or of the option nearest to it in a range."""
        code = self._code_by_key[position].get(_lookup_key(value))
        if code is not None or isinstance(self._distributions[self.names[position]], CategoricalDistribution):
            return code
        return int(np.abs(np.array(self._options[position], dtype=float) - float(value)).argmin())

    def fixed_codes(self, params: Mapping[str, Any]) -> dict[int, int]:
        """Position of a gene to its code, for those genes of `params` whose value is one of their options."""
        positions = {n: i for i, n in enumerate(self.names)}
        codes = {n: self._code_by_key[positions[n]].get(_lookup_key(v)) for n, v in params.items() if n in positions}
        return {positions[n]: c for n, c in codes.items() if c is not None}

    def sample(self, n: int, rng: np.random.Generator) -> Codes:
        """Uniform codes [n, g], independent of each other."""
        return rng.integers(0, self.n_options, size=(n, len(self.n_options)))

    def all_codes(self) -> Codes:
        """Every point of the space, codes [n_points, g], the last gene fastest."""
        return np.indices(tuple(self.n_options)).reshape(len(self.n_options), -1).T.astype(np.int64)

    def features(self, codes: Codes) -> Floats:
        """Features [n, d] of codes [n, g]: the rank 0..1 of an ordered gene, indicators of a categorical one.

        A categorical gene whose choices are all numbers gets both. A gene with one option gets none.
        """
        columns = []
        for i, (options, positions) in enumerate(zip(self._options, self._ordinals, strict=True)):
            column = codes[:, i]
            if len(options) == 1:
                continue
            if positions is not None:
                columns.append(positions[column][:, None])
            if isinstance(self._distributions[self.names[i]], CategoricalDistribution) and len(options) > 2:
                # sqrt(1/2) puts two different categories at distance 1, as far apart as the ends of an ordered gene.
                columns.append(np.sqrt(0.5) * (column[:, None] == np.arange(len(options))))
            elif positions is None:
                columns.append(column[:, None].astype(np.float64))
        return np.concatenate(columns, axis=1) if columns else np.zeros((len(codes), 1))


def as_bytes(codes: Codes) -> list[bytes]:
    """Each row of codes [n, g] as bytes, which can be hashed."""
    whole, width = np.ascontiguousarray(codes).tobytes(), codes.shape[1] * codes.itemsize
    return [whole[i : i + width] for i in range(0, len(whole), width)]


def _enumerate_options(distribution: BaseDistribution) -> Sequence[Any]:
    """The options of a gene as plain Python values, ascending for a range."""
    match distribution:
        case CategoricalDistribution():
            return list(distribution.choices)
        case IntDistribution() if not distribution.log:
            count = (distribution.high - distribution.low) // distribution.step + 1
            steps = np.unique(np.linspace(0, count - 1, min(count, MAX_LEVELS)).round().astype(int))
            return [distribution.low + distribution.step * int(k) for k in steps]
        case FloatDistribution() if distribution.step is not None:
            # `round`, because (high - low) / step may fall just below the whole number that it stands for.
            count = round((distribution.high - distribution.low) / distribution.step) + 1
            steps = np.unique(np.linspace(0, count - 1, min(count, MAX_LEVELS)).round().astype(int))
            return [min(distribution.high, distribution.low + distribution.step * int(k)) for k in steps]
        case IntDistribution():
            levels = np.geomspace(distribution.low, distribution.high, MAX_LEVELS).round().astype(int)
            return [int(v) for v in np.unique(levels)]
        case FloatDistribution():
            space = np.geomspace if distribution.log else np.linspace
            # Rounding can put the last value outside the range, where Optuna would refuse it.
            levels = np.clip(
                space(distribution.low, distribution.high, MAX_LEVELS), distribution.low, distribution.high
            )
            return [float(v) for v in np.unique(levels)]
        case _:
            raise TypeError(f"a distribution must be categorical, int or float, but got {distribution!r}")


def _ordinal_positions(options: Sequence[Any]) -> Floats | None:
    """Rank of each option among all, scaled to 0..1; None if the options have no order."""
    if not all(isinstance(o, int | float) and not isinstance(o, bool) for o in options) or len(options) < 2:
        return None
    return np.argsort(np.argsort(np.array(options, dtype=float))) / (len(options) - 1)


def _lookup_key(value: Any) -> Any:
    """Dictionary key of a value: numbers to 12 digits, which survive a storage; truth values differ from numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return (type(value).__name__, value)
    return float(f"{value:.12g}")
