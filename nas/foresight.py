"""What a search knows of a pick before it evaluates it, for its sampler; learned from the run's own records.

A pick decodes to a candidate, which has a key, a description and, once a file of it was drafted, an exact latency and
size; infeasible candidates have these too, though they were never trained. What was not drafted yet is guessed.
Nothing random: the same records give the same answers, in whichever process.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.compression import Compression
from nas.config import SearchConfig
from nas.cost_guess import Guesser, latency_prices, learn_costs, size_prices
from nas.description import COLUMNS, Describer, Description
from nas.records import Record, RunFolder
from nas.samplers._base import Known, Picks
from search_spaces._base import Choice, DisconnectedError, SearchSpace, Value

Floats = npt.NDArray[np.float64]

LIMITS = {"latency": "max_latency", "size": "max_size"}
"""Costs that are guessed, and the limits on them."""
EFFORT = 0.3
"""Reading a pick takes a fifth of a millisecond; so many fewer are looked at for each trial."""
REMEMBERED = 100_000
"""Picks whose descriptions are kept, so that a long search does not fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A pick, read: the candidate's key and description; both None where it has no path."""

    key: str | None
    description: Description | None


class Foresight:
    """Answers for the sampler of one run.

    Life: made once per process; `known` hands out what a sampler asks. Each question first reads what other processes
    and this one have added to the records since the last.

    Args:
        folder: the run, whose records teach.
        config: what was asked.
        space: of the architectures.
        compression: decodes picks.
        genes: all genes.
        input_shape: (C, H, W) of the images.
        classes: how many.
        earlier: records of other runs on the same target.
        told: this run's own search records to picks of other runs and their values, handed on to the sampler as they
            are; None without any.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: SearchConfig,
        *,
        space: SearchSpace,
        compression: Compression,
        genes: Sequence[Choice],
        input_shape: tuple[int, int, int],
        classes: int,
        earlier: Sequence[Record] = (),
        told: Callable[[Sequence[Record]], tuple[Picks, npt.ArrayLike]] | None = None,
    ) -> None:
        self._folder, self._config, self._space, self._compression = folder, config, space, compression
        self._single = {g.name: g.options[0] for g in genes if len(g.options) == 1}
        self._exact = {g.name: {round(float(o), 9): o for o in g.options} for g in genes if _are_floats(g)}
        self._describe = Describer(
            space, genes, neutral=compression.neutral(space.stages), input_shape=input_shape, classes=classes
        )
        self._prices = {"latency": latency_prices(compression.profile), "size": size_prices()}
        self._told, self._offset = told, 0
        self._records: dict[str, Record] = {}
        self._own: list[Record] = []
        self._described: dict[str, Description] = {}
        self._picks: dict[Any, Seen] = {}
        self._guessers: dict[str, Guesser] = {}
        self._note(earlier)

    def known(self) -> Known:
        """What a sampler asks."""
        return Known(
            cheap=lambda picks: self._costs(picks)[0],
            doubt=lambda picks: self._costs(picks)[1],
            chance=self.chance,
            features=self.traits,
            allowed=lambda picks: [seen.key is not None for seen in self.look(picks)],
            identity=self.names,
            earlier=None if self._told is None else self._earlier,
            effort=EFFORT,
        )

    def look(self, picks: Picks) -> list[Seen]:
        """What the picks stand for."""
        if len(self._picks) > REMEMBERED:
            self._picks.clear()
        return [self._look(picked) for picked in picks]

    def names(self, picks: Picks) -> list[Any]:
        """Keys; a pick without a path has a name of its own."""
        found = zip(picks, self.look(picks), strict=True)
        return [seen.key or tuple(sorted(picked.items())) for picked, seen in found]

    def traits(self, picks: Picks) -> Floats:
        """[n, d] What tells the picks apart; zeros where there is no path."""
        found = [seen.description.traits if seen.description else None for seen in self.look(picks)]
        width = next((len(row) for row in found if row is not None), 1)
        return np.array([np.zeros(width) if row is None else row for row in found]).reshape(len(picks), width)

    def chance(self, picks: Picks) -> Floats:
        """[n] Probability that limits on latency and size are kept; 0 or 1 where the candidate was drafted."""
        limits = {word: most for word, name in LIMITS.items() if (most := getattr(self._config, name)) is not None}
        found = np.ones(len(picks))
        if limits:
            cheap, doubt = self._costs_of(picks, tuple(limits))
            for j, most in enumerate(limits.values()):
                room = np.log(most / np.nan_to_num(cheap[:, j], nan=most))
                sure = (room >= 0).astype(np.float64)
                guessed = _normal(room / np.where(doubt[:, j] > 0, doubt[:, j], 1.0))
                found *= np.where(doubt[:, j] > 0, guessed, sure)
        return found

    def _costs(self, picks: Picks) -> tuple[Floats, Floats]:
        """[n, m] The objectives that are costs, and standard deviations of their logarithms; NaN for what is none."""
        return self._costs_of(picks, self._config.objectives)

    def _costs_of(self, picks: Picks, words: Sequence[str]) -> tuple[Floats, Floats]:
        self._read()
        seen = self.look(picks)
        rows = [i for i, each in enumerate(seen) if each.description is not None]
        described = [each.description for each in seen if each.description is not None]
        values, doubt = np.full((len(picks), len(words)), np.nan), np.zeros((len(picks), len(words)))
        if not rows:
            return values, doubt
        columns = np.array([each.columns for each in described])
        traits = np.array([each.traits for each in described])
        drafted = [self._records.get(str(seen[i].key)) for i in rows]
        for j, word in enumerate(words):
            if word not in LIMITS:
                continue
            guess = self._guesser(word)(columns, traits)
            exact = [None if record is None else record.objective(word) for record in drafted]
            values[rows, j] = [np.exp(m) if e is None else e for m, e in zip(guess.mean.tolist(), exact, strict=True)]
            doubt[rows, j] = [d if e is None else 0.0 for d, e in zip(guess.deviation.tolist(), exact, strict=True)]
        return values, doubt

    def _guesser(self, word: str) -> Guesser:
        if word not in self._guessers:
            known = [(key, v) for key, r in self._records.items() if (v := r.objective(word)) is not None and v > 0]
            described = [self._described[key] for key, _ in known]
            columns = np.array([d.columns for d in described]).reshape(-1, len(COLUMNS))
            traits = np.array([d.traits for d in described]).reshape(len(known), -1 if known else 1)
            values = np.array([v for _, v in known])
            self._guessers[word] = learn_costs(columns, traits, values, prices=self._prices[word])
        return self._guessers[word]

    def _earlier(self) -> tuple[Picks, npt.ArrayLike]:
        self._read()
        return self._told(self._own) if self._told is not None else ((), ())

    def _read(self) -> None:
        """Take in the records that were added since the last time."""
        lines, self._offset = self._folder.tail("records.jsonl", self._offset)
        added = [record for record in map(Record.from_json, lines) if record.phase != "verified"]
        self._own += [record for record in added if record.phase == "search"]
        self._note(added)

    def _note(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.latency is not None or record.size_bytes is not None:
                self._described[record.key] = self._describe(record.candidate)
                self._records[record.key] = record
                self._guessers = {}

    def _look(self, picked: Mapping[str, Any]) -> Seen:
        name = (tuple(picked), tuple(picked.values()))
        found = self._picks.get(name)
        if found is None:
            found = self._picks[name] = self._decoded(picked)
        return found

    def _decoded(self, picked: Mapping[str, Any]) -> Seen:
        full: dict[str, Value] = {**self._single, **picked}
        for gene, options in self._exact.items():  # a grid's steps add up to a little more or less
            full[gene] = options.get(round(float(full[gene]), 9), full[gene])
        try:
            candidate = self._compression.decode(self._space, full)
        except DisconnectedError:
            return Seen(key=None, description=None)
        return Seen(key=candidate.key, description=self._describe(candidate))


def _are_floats(gene: Choice) -> bool:
    return all(isinstance(option, float) for option in gene.options)


def _normal(values: Floats) -> Floats:
    """[n] The probability that a standard normal variable is at most so large."""
    return np.array([NormalDist().cdf(v) for v in values.tolist()])
