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
from nas.compression.pipeline import CompressionPipeline
from nas.config import SearchConfig
from nas.intervals import normal_cdf
from nas.latency.estimate import corrected_for_load
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.acquisition.base import Picks, PriorTrials, SamplerContext
from nas.searcher.acquisition.candidate_features import COST_COLUMNS, CandidateFeatures, FeatureExtractor
from nas.searcher.acquisition.cost_model import (
    MAX_EXAMPLES,
    CostModel,
    fit_cost_model,
    initial_latency_coefficients,
    initial_size_coefficients,
)
from nas.searcher.acquisition.subsample import newest_and_spread
from search_spaces._base import Choice, DisconnectedError, SearchSpace, Value

Floats = npt.NDArray[np.float64]

COST_LIMITS = {"latency": "max_latency", "size": "max_size"}
"""Costs that are guessed, and the limits on them."""
POOL_SCALE = 0.3
"""Reading a pick takes a fifth of a millisecond; so many fewer are looked at for each trial."""
MAX_CACHED_PICKS = 50_000
"""Picks that are kept for their next time, twice as many at most, so that a long search does not fill the memory."""


@dataclass(kw_only=True, slots=True)
class DecodedPick:
    """A pick, read: key and description of its candidate, None where it has no path.

    Most picks are known from their key already, so they are described when that is asked for; until then the candidate
    is kept.
    """

    key: str | None
    candidate: Candidate | None
    features: CandidateFeatures | None = None


class SearchSurrogate:
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
        compression: CompressionPipeline,
        genes: Sequence[Choice],
        input_shape: tuple[int, int, int],
        classes: int,
        prior_records: Sequence[Record] = (),
        prior_trials: Callable[[Sequence[Record]], PriorTrials] | None = None,
    ) -> None:
        self._folder, self._config, self._space, self._compression = folder, config, space, compression
        self._constant_genes = {g.name: g.options[0] for g in genes if len(g.options) == 1}
        self._float_options: dict[str, dict[Value, Value]] = {
            g.name: {round(float(o), 9): o for o in g.options} for g in genes if _are_floats(g)
        }
        self._extractor = FeatureExtractor(
            space, genes, neutral=compression.neutral_settings(space.stages), input_shape=input_shape, classes=classes
        )
        self._initial_coefficients = {
            "latency": initial_latency_coefficients(compression.profile),
            "size": initial_size_coefficients(),
        }
        self._prior_trials, self._n_read = prior_trials, 0
        self._records: dict[str, Record] = {}
        self._own_records: list[Record] = []
        self._features_by_key: dict[str, CandidateFeatures] = {}
        self._recent_picks: dict[Any, DecodedPick] = {}
        self._older_picks: dict[Any, DecodedPick] = {}
        self._last_estimates: tuple[Any, ...] = ()
        self._cost_models: dict[str, CostModel] = {}
        self._add_records(prior_records)

    def sampler_context(self) -> SamplerContext:
        """What a sampler asks."""
        return SamplerContext(
            known_objectives=lambda picks: self._known_objectives(picks)[0],
            log_std=lambda picks: self._known_objectives(picks)[1],
            feasibility=self.feasibility,
            features=self.features,
            allowed=self.allowed,
            identity=self.identities,
            prior_trials=None if self._prior_trials is None else self._read_prior_trials,
            pool_scale=POOL_SCALE,
        )

    def decode_all(self, picks: Picks) -> list[DecodedPick]:
        """What the picks stand for, described."""
        found = self._decode_cached(picks)
        new = {str(seen.key): seen.candidate for seen in found if seen.candidate is not None}
        described = dict(zip(new, self._extract_all(new), strict=True))
        for seen in found:
            if seen.candidate is not None:
                seen.features, seen.candidate = described[str(seen.key)], None
        return found

    def allowed(self, picks: Picks) -> list[bool]:
        """Whether each has a path."""
        return [seen.key is not None for seen in self._decode_cached(picks)]

    def identities(self, picks: Picks) -> list[Any]:
        """Keys; a pick without a path has a name of its own."""
        found = zip(picks, self._decode_cached(picks), strict=True)
        return [seen.key or tuple(sorted(picked.items())) for picked, seen in found]

    def features(self, picks: Picks) -> Floats:
        """[n, d] What tells the picks apart; zeros where there is no path."""
        found = [seen.features for seen in self.decode_all(picks)]
        _, traits = _stack_features([description for description in found if description is not None])
        rows = np.zeros((len(picks), traits.shape[1]))
        rows[[i for i, description in enumerate(found) if description is not None]] = traits
        return rows

    def feasibility(self, picks: Picks) -> Floats:
        """[n] Probability that limits on latency and size are kept; 0 or 1 where the candidate was drafted."""
        limits = {word: most for word, name in COST_LIMITS.items() if (most := getattr(self._config, name)) is not None}
        found = np.ones(len(picks))
        for word, most in limits.items():
            cheap, doubt = (column[word] for column in self._cost_estimates(picks))
            room = np.log(most / np.nan_to_num(cheap, nan=most))
            sure = (room >= 0).astype(np.float64)
            guessed = normal_cdf(room / np.where(doubt > 0, doubt, 1.0))
            found *= np.where(doubt > 0, guessed, sure)
        return found

    def _known_objectives(self, picks: Picks) -> tuple[Floats, Floats]:
        """[n, m] The objectives that are costs, and standard deviations of their logarithms; NaN for what is none."""
        values, doubt = self._cost_estimates(picks)
        unknown, sure = np.full(len(picks), np.nan), np.zeros(len(picks))
        words = self._config.search.objectives
        return (
            np.stack([values.get(word, unknown) for word in words], axis=1),
            np.stack([doubt.get(word, sure) for word in words], axis=1),
        )

    def _cost_estimates(self, picks: Picks) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """[n] Each cost that is an objective or limited, and the standard deviation of its logarithm, by word.

        A sampler asks several things of one list in turn, so the answer to the last is kept.
        """
        self._read_new_records()
        if not (
            self._last_estimates
            and self._last_estimates[0] is picks
            and self._last_estimates[1] == (len(picks), self._n_read)
        ):
            self._last_estimates = (picks, (len(picks), self._n_read), self._estimate_costs(self.decode_all(picks)))
        found: tuple[dict[str, Floats], dict[str, Floats]] = self._last_estimates[2]
        return found

    def _estimate_costs(self, decoded: Sequence[DecodedPick]) -> tuple[dict[str, Floats], dict[str, Floats]]:
        config = self._config
        words = [
            w for w, most in COST_LIMITS.items() if w in config.search.objectives or getattr(config, most) is not None
        ]
        values = {word: np.full(len(decoded), np.nan) for word in words}
        doubt = {word: np.zeros(len(decoded)) for word in words}
        rows = [i for i, each in enumerate(decoded) if each.key is not None]
        if not rows:
            return values, doubt
        columns, traits = _stack_features([each.features for each in decoded if each.features is not None])
        drafted = [self._records.get(str(decoded[i].key)) for i in rows]
        for word in words:
            guess = self._cost_model(word)(columns, traits)
            facts = [None if record is None else observed_cost(record, word) for record in drafted]
            exact = np.array(facts, dtype=np.float64)
            values[word][rows] = np.where(np.isnan(exact), np.exp(guess.log_mean), exact)
            doubt[word][rows] = np.where(np.isnan(exact), guess.log_std, 0.0)
        return values, doubt

    def _cost_model(self, objective: str) -> CostModel:
        if objective not in self._cost_models:
            known = [(r, v) for r in self._records.values() if (v := observed_cost(r, objective)) is not None and v > 0]
            known = [known[i] for i in newest_and_spread(np.arange(len(known)), MAX_EXAMPLES)]
            columns, traits = _stack_features(self._extract_all({record.key: record.candidate for record, _ in known}))
            values = np.array([v for _, v in known])
            self._cost_models[objective] = fit_cost_model(
                columns, traits, values, initial_coefficients=self._initial_coefficients[objective]
            )
        return self._cost_models[objective]

    def _extract_all(self, candidates: Mapping[str, Candidate]) -> list[CandidateFeatures]:
        """Of candidates by key, in their order; those of records are kept."""
        new = {key: candidate for key, candidate in candidates.items() if key not in self._features_by_key}
        found = dict(zip(new, self._extractor.extract_all([*new.values()]), strict=True))
        self._features_by_key |= {key: each for key, each in found.items() if key in self._records}
        return [found.get(key) or self._features_by_key[key] for key in candidates]

    def _read_prior_trials(self) -> PriorTrials:
        self._read_new_records()
        return self._prior_trials(self._own_records) if self._prior_trials is not None else ((), ())

    def _read_new_records(self) -> None:
        """Take in the records that were added since the last time."""
        records = self._folder.records()
        added = [record for record in records[self._n_read :] if record.phase != "verified"]
        self._n_read = len(records)
        self._own_records += [record for record in added if record.phase == "search"]
        self._add_records(added)

    def _add_records(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.latency is not None or record.size_bytes is not None:
                self._records[record.key] = record
                self._cost_models = {}

    def _decode_cached(self, picks: Picks) -> list[DecodedPick]:
        """What the picks stand for; what was not described yet is left so."""
        if len(self._recent_picks) > MAX_CACHED_PICKS:  # what is asked again and again outlives this
            self._recent_picks, self._older_picks = {}, self._recent_picks
        found = []
        for picked in picks:
            name = (tuple(picked), tuple(picked.values()))
            seen = self._recent_picks.get(name)
            if seen is None:
                seen = self._recent_picks[name] = self._older_picks.get(name) or self._decode(picked)
            found.append(seen)
        return found

    def _decode(self, picked: Mapping[str, Any]) -> DecodedPick:
        full: dict[str, Value] = {**self._constant_genes, **picked}
        for gene, options in self._float_options.items():  # a grid's steps add up to a little more or less
            value = full[gene]
            if value not in options:
                options[value] = options.get(round(float(value), 9), value)
            full[gene] = options[value]
        try:
            candidate = self._compression.decode(self._space, full)
        except DisconnectedError:
            return DecodedPick(key=None, candidate=None)
        return DecodedPick(key=candidate.key, candidate=candidate)


def _stack_features(candidates: Sequence[CandidateFeatures]) -> tuple[Floats, Floats]:
    """[n, c] Columns and [n, d] traits, one row for each description."""
    if not candidates:
        return np.empty((0, len(COST_COLUMNS))), np.empty((0, 1))
    columns, traits = (
        np.concatenate([d.cost_columns for d in candidates]),
        np.concatenate([d.features for d in candidates]),
    )
    return columns.reshape(len(candidates), -1), traits.reshape(len(candidates), -1)


def observed_cost(record: Record, objective: str) -> float | None:
    """Latency or size that a record tells; the latency of a busy machine as that of the machine at its best."""
    if objective == "latency" and record.latency is not None:
        return corrected_for_load(record.latency).latency_ms
    return record.objective(objective)


def _are_floats(gene: Choice) -> bool:
    return all(isinstance(option, float) for option in gene.options)
