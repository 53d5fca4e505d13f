"""Surrogate of a search: what is known about a candidate before its evaluation, fitted to the records of the run.

Params decode to a candidate, which has a key and features. Once its untrained file has been exported, it also has an
exact latency, size and memory; infeasible candidates have these too, although they were never trained. For all others
the costs are predicted. There is no randomness: the same records give the same values in every process.
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
from nas.latency.latency import corrected_for_load
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.acquisition.base import Params, ParamsList, PriorTrials, SamplerContext
from nas.searcher.acquisition.candidate_features import COST_COLUMNS, CandidateFeatures, FeatureExtractor
from nas.searcher.acquisition.cost_model import (
    MAX_EXAMPLES,
    CostModel,
    fit_cost_model,
    initial_latency_coefficients,
    initial_memory_coefficients,
    initial_size_coefficients,
)
from nas.searcher.acquisition.subsample import newest_and_spread
from search_spaces._base import Choice, DisconnectedError, SearchSpace, Value

Floats = npt.NDArray[np.float64]

COST_LIMITS = {"latency": "max_latency", "size": "max_size", "memory": "max_memory"}
"""Predicted costs, and the fields that limit them."""
POOL_SCALE = 0.3
"""Decoding params takes 0.2 ms, so fewer candidates are screened for each trial than the sampler's default."""
MAX_CACHED_PARAMS = 50_000
"""Params in each of the two generations of the cache, which bounds the memory of a long search."""


@dataclass(kw_only=True, slots=True)
class DecodedParams:
    """Decoded params.

    Most params turn out to be duplicates by their key, so features are computed on demand, from the candidate that is
    held until then.

    Attributes:
        key: of the candidate; None where the params leave no path from input to output.
        candidate: None where there is none, or once the features exist.
        features: None until `decode_all` has computed them.
    """

    key: str | None
    candidate: Candidate | None
    features: CandidateFeatures | None = None


class SearchSurrogate:
    """Knowledge about candidates for the sampler of one run.

    Life: made once per process; `sampler_context` hands its methods to a sampler. Each method first reads the records
    that were added since the last call.

    Args:
        folder: of the run, whose records the models are fitted to.
        config: of the search.
        space: of the architectures.
        compression: decodes params.
        genes: all genes of the search.
        input_shape: (C, H, W) of the images.
        classes: number of classes.
        prior_records: records of other runs on the same target.
        prior_trials: this run's own search records to the params and values of other runs, which the sampler receives
            unchanged; None without any.
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
            "memory": initial_memory_coefficients(),
        }
        self._prior_trials, self._n_read = prior_trials, 0
        self._records: dict[str, Record] = {}
        self._observed_costs: dict[str, dict[str, float | None]] = {word: {} for word in COST_LIMITS}  # as `_records`
        self._own_records: list[Record] = []
        self._features_by_key: dict[str, CandidateFeatures] = {}
        self._recent_params: dict[Any, DecodedParams] = {}
        self._older_params: dict[Any, DecodedParams] = {}
        self._last_estimates: tuple[Any, ...] = ()
        self._cost_models: dict[str, CostModel] = {}
        self._add_records(prior_records)

    def sampler_context(self) -> SamplerContext:
        """The context of a sampler, whose functions read new records at each call."""
        return SamplerContext(
            known_objectives=lambda params_list: self._known_objectives(params_list)[0],
            log_std=lambda params_list: self._known_objectives(params_list)[1],
            feasibility=self.feasibility,
            features=self.features,
            allowed=self.allowed,
            identity=self.identities,
            prior_trials=None if self._prior_trials is None else self._read_prior_trials,
            pool_scale=POOL_SCALE,
        )

    def decode_all(self, params_list: ParamsList) -> list[DecodedParams]:
        """The decoded params, with features."""
        decoded = self._decode_cached(params_list)
        new = {str(each.key): each.candidate for each in decoded if each.candidate is not None}
        features = dict(zip(new, self._extract_all(new), strict=True))
        for each in decoded:
            if each.candidate is not None:
                each.features, each.candidate = features[str(each.key)], None
        return decoded

    def allowed(self, params_list: ParamsList) -> list[bool]:
        """[n] Whether params leave a path from input to output."""
        return [each.key is not None for each in self._decode_cached(params_list)]

    def identities(self, params_list: ParamsList) -> list[Any]:
        """[n] Keys of the candidates; params without a path are their own identity."""
        pairs = zip(params_list, self._decode_cached(params_list), strict=True)
        return [decoded.key or tuple(sorted(params.items())) for params, decoded in pairs]

    def features(self, params_list: ParamsList) -> Floats:
        """[n, d] Features of the candidates; zeros where there is no path."""
        by_row = [decoded.features for decoded in self.decode_all(params_list)]
        _, features = _stack_features([each for each in by_row if each is not None])
        rows = np.zeros((len(params_list), features.shape[1]))
        rows[[i for i, each in enumerate(by_row) if each is not None]] = features
        return rows

    def feasibility(self, params_list: ParamsList) -> Floats:
        """[n] Probability that the limits on latency, size and memory are kept; 0 or 1 where the costs are exact.

        The logarithm of a predicted cost is normal, and the costs are taken as independent.
        """
        limits = {
            word: most for word, name in COST_LIMITS.items() if (most := getattr(self._config.limits, name)) is not None
        }
        probability = np.ones(len(params_list))
        for word, most in limits.items():
            cost, log_std = (column[word] for column in self._cost_estimates(params_list))
            # Params without a path have no cost; they are not allowed, so their probability does not matter.
            room = np.log(most / np.nan_to_num(cost, nan=most))
            exact = (room >= 0).astype(np.float64)
            predicted = normal_cdf(room / np.where(log_std > 0, log_std, 1.0))
            probability *= np.where(log_std > 0, predicted, exact)
        return probability

    def _known_objectives(self, params_list: ParamsList) -> tuple[Floats, Floats]:
        """[n, m] each: objectives that are costs, NaN for the others, and standard deviations of their logarithms."""
        values, log_std = self._cost_estimates(params_list)
        unknown, exact = np.full(len(params_list), np.nan), np.zeros(len(params_list))
        words = self._config.search.objectives
        return (
            np.stack([values.get(word, unknown) for word in words], axis=1),
            np.stack([log_std.get(word, exact) for word in words], axis=1),
        )

    def _cost_estimates(self, params_list: ParamsList) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """By objective: costs [n], and standard deviations [n] of their logarithms, where it is searched or limited.

        A sampler calls several functions with one list, so the estimates of the last list are cached. Its length and
        the number of records tell whether the list has grown, or the records have.
        """
        self._read_new_records()
        state = (len(params_list), self._n_read)
        if not (self._last_estimates and self._last_estimates[0] is params_list and self._last_estimates[1] == state):
            self._last_estimates = (params_list, state, self._estimate_costs(self.decode_all(params_list)))
        estimates: tuple[dict[str, Floats], dict[str, Floats]] = self._last_estimates[2]
        return estimates

    def _estimate_costs(self, decoded: Sequence[DecodedParams]) -> tuple[dict[str, Floats], dict[str, Floats]]:
        objectives, limits = self._config.search.objectives, self._config.limits
        words = [w for w, limit in COST_LIMITS.items() if w in objectives or getattr(limits, limit) is not None]
        values = {word: np.full(len(decoded), np.nan) for word in words}
        log_std = {word: np.zeros(len(decoded)) for word in words}
        rows = [i for i, each in enumerate(decoded) if each.key is not None]
        if not rows:
            return values, log_std
        columns, features = _stack_features([each.features for each in decoded if each.features is not None])
        for word in words:
            estimate = self._cost_model(word)(columns, features)
            observed = self._observed_costs[word]
            exact = np.array([observed.get(str(decoded[i].key)) for i in rows], dtype=np.float64)  # None becomes NaN
            values[word][rows] = np.where(np.isnan(exact), np.exp(estimate.log_mean), exact)
            log_std[word][rows] = np.where(np.isnan(exact), estimate.log_std, 0.0)
        return values, log_std

    def _cost_model(self, objective: str) -> CostModel:
        """The model of a cost, fitted again after new records."""
        if objective not in self._cost_models:
            pairs = [(key, v) for key, v in self._observed_costs[objective].items() if v is not None and v > 0]
            pairs = [pairs[i] for i in newest_and_spread(np.arange(len(pairs)), MAX_EXAMPLES)]
            columns, features = _stack_features(
                self._extract_all({key: self._records[key].candidate for key, _ in pairs})
            )
            values = np.array([v for _, v in pairs])
            self._cost_models[objective] = fit_cost_model(
                columns, features, values, initial_coefficients=self._initial_coefficients[objective]
            )
        return self._cost_models[objective]

    def _extract_all(self, candidates: Mapping[str, Candidate]) -> list[CandidateFeatures]:
        """Features of candidates by key, in their order; those of recorded candidates are cached."""
        new = {key: candidate for key, candidate in candidates.items() if key not in self._features_by_key}
        features = dict(zip(new, self._extractor.extract_all([*new.values()]), strict=True))
        self._features_by_key |= {key: each for key, each in features.items() if key in self._records}
        return [features.get(key) or self._features_by_key[key] for key in candidates]

    def _read_prior_trials(self) -> PriorTrials:
        self._read_new_records()
        return self._prior_trials(self._own_records) if self._prior_trials is not None else ((), ())

    def _read_new_records(self) -> None:
        """Add the records that were appended to the run folder since the last call."""
        records = self._folder.records()
        # Verified records have another training budget, and their latency is a second measurement of the same file.
        added = [record for record in records[self._n_read :] if record.phase != "verified"]
        self._n_read = len(records)
        self._own_records += [record for record in added if record.phase == "search"]
        self._add_records(added)

    def _add_records(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.latency is not None or record.size_bytes is not None:
                self._records[record.key] = record
                for word, costs in self._observed_costs.items():
                    costs[record.key] = observed_cost(record, word)
                self._cost_models = {}

    def _decode_cached(self, params_list: ParamsList) -> list[DecodedParams]:
        """The decoded params; features that were not computed yet stay so."""
        # Two generations: what is needed again moves to the recent one, and the rest is dropped with the older one.
        if len(self._recent_params) > MAX_CACHED_PARAMS:
            self._recent_params, self._older_params = {}, self._recent_params
        found = []
        for params in params_list:
            name = (tuple(params), tuple(params.values()))
            decoded = self._recent_params.get(name)
            if decoded is None:
                decoded = self._recent_params[name] = self._older_params.get(name) or self._decode(params)
            found.append(decoded)
        return found

    def _decode(self, params: Params) -> DecodedParams:
        full: dict[str, Value] = {**self._constant_genes, **params}
        # low + k * step differs from the option in its last bits; the nearest option to 9 digits is meant.
        for gene, options in self._float_options.items():
            value = full[gene]
            if value not in options:
                options[value] = options.get(round(float(value), 9), value)
            full[gene] = options[value]
        try:
            candidate = self._compression.decode(self._space, full)
        except DisconnectedError:
            return DecodedParams(key=None, candidate=None)
        return DecodedParams(key=candidate.key, candidate=candidate)


def _stack_features(candidates: Sequence[CandidateFeatures]) -> tuple[Floats, Floats]:
    """Cost columns [n, c] and features [n, d], one row for each candidate."""
    if not candidates:
        return np.empty((0, len(COST_COLUMNS))), np.empty((0, 1))
    columns, features = (
        np.concatenate([each.cost_columns for each in candidates]),
        np.concatenate([each.features for each in candidates]),
    )
    return columns.reshape(len(candidates), -1), features.reshape(len(candidates), -1)


def observed_cost(record: Record, objective: str) -> float | None:
    """Latency [ms], size or memory [bytes] of a record; the load of a busy machine is subtracted from a latency."""
    if objective == "latency" and record.latency is not None:
        return corrected_for_load(record.latency).latency_ms
    return record.objective(objective)


def _are_floats(gene: Choice) -> bool:
    return all(isinstance(option, float) for option in gene.options)
