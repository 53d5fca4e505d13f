"""What a search knows of a pick before it evaluates it, for its sampler; learned from the run's own records.

A pick decodes to a candidate, which has a key, a description and, once a file of it was drafted, an exact latency and
size; infeasible candidates have these too, though they were never trained. What was not drafted yet is guessed.
Nothing random: the same records give the same answers, in whichever process.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.candidate import Candidate
from nas.compression.pipeline import Compression
from nas.config import SearchConfig
from nas.intervals import normal_cdf
from nas.latency.estimate import at_best
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.acquisition.base import Known, Picks, Told
from nas.searcher.acquisition.candidate_features import COLUMNS, Describer, Description
from nas.searcher.acquisition.cost_model import MOST, Guesser, latency_prices, learn_costs, size_prices
from nas.searcher.acquisition.subsample import some
from search_spaces._base import Choice, DisconnectedError, SearchSpace, Value

Floats = npt.NDArray[np.float64]

LIMITS = {"latency": "max_latency", "size": "max_size"}
"""Costs that are guessed, and the limits on them."""
EFFORT = 0.3
"""Reading a pick takes a fifth of a millisecond; so many fewer are looked at for each trial."""
REMEMBERED = 50_000
"""Picks that are kept for their next time, twice as many at most, so that a long search does not fill the memory."""


@dataclass(kw_only=True, slots=True)
class Seen:
    """A pick, read: key and description of its candidate, None where it has no path.

    Most picks are known from their key already, so they are described when that is asked for; until then the candidate
    is kept.
    """

    key: str | None
    candidate: Candidate | None
    description: Description | None = None


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
        told: this run's own search records to picks of other runs and what they told, handed on to the sampler as they
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
        told: Callable[[Sequence[Record]], Told] | None = None,
    ) -> None:
        self._folder, self._config, self._space, self._compression = folder, config, space, compression
        self._single = {g.name: g.options[0] for g in genes if len(g.options) == 1}
        self._exact: dict[str, dict[Value, Value]] = {
            g.name: {round(float(o), 9): o for o in g.options} for g in genes if _are_floats(g)
        }
        self._describe = Describer(
            space, genes, neutral=compression.neutral(space.stages), input_shape=input_shape, classes=classes
        )
        self._prices = {"latency": latency_prices(compression.profile), "size": size_prices()}
        self._told, self._offset = told, 0
        self._records: dict[str, Record] = {}
        self._own: list[Record] = []
        self._described: dict[str, Description] = {}
        self._picks: dict[Any, Seen] = {}
        self._older: dict[Any, Seen] = {}
        self._costed: tuple[Any, ...] = ()
        self._guessers: dict[str, Guesser] = {}
        self._note(earlier)

    def known(self) -> Known:
        """What a sampler asks."""
        return Known(
            cheap=lambda picks: self._costs(picks)[0],
            doubt=lambda picks: self._costs(picks)[1],
            chance=self.chance,
            features=self.traits,
            allowed=self.allowed,
            identity=self.names,
            earlier=None if self._told is None else self._earlier,
            effort=EFFORT,
        )

    def look(self, picks: Picks) -> list[Seen]:
        """What the picks stand for, described."""
        found = self._look(picks)
        new = {str(seen.key): seen.candidate for seen in found if seen.candidate is not None}
        described = dict(zip(new, self._describe_all(new), strict=True))
        for seen in found:
            if seen.candidate is not None:
                seen.description, seen.candidate = described[str(seen.key)], None
        return found

    def allowed(self, picks: Picks) -> list[bool]:
        """Whether each has a path."""
        return [seen.key is not None for seen in self._look(picks)]

    def names(self, picks: Picks) -> list[Any]:
        """Keys; a pick without a path has a name of its own."""
        found = zip(picks, self._look(picks), strict=True)
        return [seen.key or tuple(sorted(picked.items())) for picked, seen in found]

    def traits(self, picks: Picks) -> Floats:
        """[n, d] What tells the picks apart; zeros where there is no path."""
        found = [seen.description for seen in self.look(picks)]
        _, traits = _tables([description for description in found if description is not None])
        rows = np.zeros((len(picks), traits.shape[1]))
        rows[[i for i, description in enumerate(found) if description is not None]] = traits
        return rows

    def chance(self, picks: Picks) -> Floats:
        """[n] Probability that limits on latency and size are kept; 0 or 1 where the candidate was drafted."""
        limits = {word: most for word, name in LIMITS.items() if (most := getattr(self._config, name)) is not None}
        found = np.ones(len(picks))
        for word, most in limits.items():
            cheap, doubt = (column[word] for column in self._costs_of(picks))
            room = np.log(most / np.nan_to_num(cheap, nan=most))
            sure = (room >= 0).astype(np.float64)
            guessed = normal_cdf(room / np.where(doubt > 0, doubt, 1.0))
            found *= np.where(doubt > 0, guessed, sure)
        return found

    def _costs(self, picks: Picks) -> tuple[Floats, Floats]:
        """[n, m] The objectives that are costs, and standard deviations of their logarithms; NaN for what is none."""
        values, doubt = self._costs_of(picks)
        unknown, sure = np.full(len(picks), np.nan), np.zeros(len(picks))
        words = self._config.objectives
        return (
            np.stack([values.get(word, unknown) for word in words], axis=1),
            np.stack([doubt.get(word, sure) for word in words], axis=1),
        )

    def _costs_of(self, picks: Picks) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """[n] Each cost that is an objective or limited, and the standard deviation of its logarithm, by word.

        A sampler asks several things of one list in turn, so the answer to the last is kept.
        """
        self._read()
        if not (self._costed and self._costed[0] is picks and self._costed[1] == (len(picks), self._offset)):
            self._costed = (picks, (len(picks), self._offset), self._guessed(self.look(picks)))
        found: tuple[dict[str, Floats], dict[str, Floats]] = self._costed[2]
        return found

    def _guessed(self, seen: Sequence[Seen]) -> tuple[dict[str, Floats], dict[str, Floats]]:
        config = self._config
        words = [w for w, most in LIMITS.items() if w in config.objectives or getattr(config, most) is not None]
        values = {word: np.full(len(seen), np.nan) for word in words}
        doubt = {word: np.zeros(len(seen)) for word in words}
        rows = [i for i, each in enumerate(seen) if each.key is not None]
        if not rows:
            return values, doubt
        columns, traits = _tables([each.description for each in seen if each.description is not None])
        drafted = [self._records.get(str(seen[i].key)) for i in rows]
        for word in words:
            guess = self._guesser(word)(columns, traits)
            facts = [None if record is None else cost_of(record, word) for record in drafted]
            exact = np.array(facts, dtype=np.float64)
            values[word][rows] = np.where(np.isnan(exact), np.exp(guess.mean), exact)
            doubt[word][rows] = np.where(np.isnan(exact), guess.deviation, 0.0)
        return values, doubt

    def _guesser(self, word: str) -> Guesser:
        if word not in self._guessers:
            known = [(r, v) for r in self._records.values() if (v := cost_of(r, word)) is not None and v > 0]
            known = [known[i] for i in some(np.arange(len(known)), MOST)]
            columns, traits = _tables(self._describe_all({record.key: record.candidate for record, _ in known}))
            values = np.array([v for _, v in known])
            self._guessers[word] = learn_costs(columns, traits, values, prices=self._prices[word])
        return self._guessers[word]

    def _describe_all(self, candidates: Mapping[str, Candidate]) -> list[Description]:
        """Of candidates by key, in their order; those of records are kept."""
        new = {key: candidate for key, candidate in candidates.items() if key not in self._described}
        found = dict(zip(new, self._describe.all([*new.values()]), strict=True))
        self._described |= {key: each for key, each in found.items() if key in self._records}
        return [found.get(key) or self._described[key] for key in candidates]

    def _earlier(self) -> Told:
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
                self._records[record.key] = record
                self._guessers = {}

    def _look(self, picks: Picks) -> list[Seen]:
        """What the picks stand for; what was not described yet is left so."""
        if len(self._picks) > REMEMBERED:  # what is asked again and again outlives this
            self._picks, self._older = {}, self._picks
        found = []
        for picked in picks:
            name = (tuple(picked), tuple(picked.values()))
            seen = self._picks.get(name)
            if seen is None:
                seen = self._picks[name] = self._older.get(name) or self._decoded(picked)
            found.append(seen)
        return found

    def _decoded(self, picked: Mapping[str, Any]) -> Seen:
        full: dict[str, Value] = {**self._single, **picked}
        for gene, options in self._exact.items():  # a grid's steps add up to a little more or less
            value = full[gene]
            if value not in options:
                options[value] = options.get(round(float(value), 9), value)
            full[gene] = options[value]
        try:
            candidate = self._compression.decode(self._space, full)
        except DisconnectedError:
            return Seen(key=None, candidate=None)
        return Seen(key=candidate.key, candidate=candidate)


def _tables(described: Sequence[Description]) -> tuple[Floats, Floats]:
    """[n, c] Columns and [n, d] traits, one row for each description."""
    if not described:
        return np.empty((0, len(COLUMNS))), np.empty((0, 1))
    columns, traits = np.concatenate([d.columns for d in described]), np.concatenate([d.traits for d in described])
    return columns.reshape(len(described), -1), traits.reshape(len(described), -1)


def cost_of(record: Record, word: str) -> float | None:
    """Latency or size that a record tells; the latency of a busy machine as that of the machine at its best."""
    if word == "latency" and record.latency is not None:
        return at_best(record.latency).latency_ms
    return record.objective(word)


def _are_floats(gene: Choice) -> bool:
    return all(isinstance(option, float) for option in gene.options)
