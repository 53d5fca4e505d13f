"""Candidate features: the workload of a candidate's network by bit-width, and inputs of the surrogate models.

They are counted without building the network, in under 0.1 ms. They serve predictions only; every reported figure is
read off an exported file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from nas.candidate import Candidate
from search_spaces._base import HEAD, STEM, Choice, SearchSpace, Value
from search_spaces._work import WORKLOAD_FIELDS, ZERO_WORKLOAD, Workload, sum_workloads

Floats = npt.NDArray[np.float64]

BIT_WIDTHS = (8, 16, 32)
"""Bit-widths that the workload is counted for separately."""
_COLUMN_PARTS = WORKLOAD_FIELDS[:-1]
COST_COLUMNS = ("fixed", *(f"{part}{bits}" for bits in BIT_WIDTHS for part in _COLUMN_PARTS))
"""Columns of the additive cost model: 1, and each part of the workload of the units of each bit-width. With INT8 the
quantisation between two layers prevents fusion, so a fused layer counts as a kernel of its own."""
_KERNELS = [WORKLOAD_FIELDS.index(part) for part in ("dense", "pointwise", "depthwise", "moving")]
_MACS = [WORKLOAD_FIELDS.index(part) for part in ("dense_macs", "pointwise_macs", "depthwise_macs")]
_MOVING = WORKLOAD_FIELDS.index("moving")
_WEIGHTS, _ELEMENTS = WORKLOAD_FIELDS.index("weights"), WORKLOAD_FIELDS.index("elements")


@dataclass(frozen=True, kw_only=True)
class CandidateFeatures:
    """Features of one candidate.

    Attributes:
        cost_columns: [len(COST_COLUMNS)], all 0 or more.
        features: [d] further numbers that distinguish the candidates of one space, on any scale.
    """

    cost_columns: Floats
    features: Floats


class FeatureExtractor:
    """Extracts the same features from every candidate of one search.

    Args:
        space: of the architectures.
        genes: all genes of the search.
        neutral: values of compression genes that change nothing.
        input_shape: (C, H, W) of the images.
        classes: number of classes.
    """

    def __init__(
        self,
        space: SearchSpace,
        genes: Sequence[Choice],
        *,
        neutral: Mapping[str, Value],
        input_shape: tuple[int, int, int],
        classes: int,
    ) -> None:
        self._space, self._input_shape, self._classes = space, input_shape, classes
        self._units = (STEM, *space.stages, HEAD)
        # Genes of stages and cells show in the workload, which is also the same for equal networks.
        plain = [g for g in genes if "." not in g.name or not g.name.startswith((*space.stages, "sparsity.", "bits."))]
        self._gene_encodings = [(g.name, _encode_gene(g), neutral.get(g.name)) for g in plain if len(g.options) > 1]

    def __call__(self, candidate: Candidate) -> CandidateFeatures:
        """The features of one candidate."""
        return self.extract_all([candidate])[0]

    def extract_all(self, candidates: Sequence[Candidate]) -> list[CandidateFeatures]:
        """The features of some candidates, faster than one by one."""
        if not candidates:
            return []
        works = [
            self._space.workload(c.architecture, input_shape=self._input_shape, classes=self._classes, widths=c.pruned)
            for c in candidates
        ]
        by_bits = [_work_by_bits(c.bits, each) for c, each in zip(candidates, works, strict=True)]
        counts = np.array(
            [self._count_features(*each) for each in zip(candidates, works, by_bits, strict=True)], np.float64
        )
        shares = np.array([self._share_features(c) for c in candidates], np.float64)
        columns = np.array([(1, *chain(*each)) for each in by_bits], np.float64)
        features = np.concatenate([np.log2(1.0 + counts), shares], axis=1)
        return [CandidateFeatures(cost_columns=c, features=t) for c, t in zip(columns, features, strict=True)]

    def _count_features(
        self, candidate: Candidate, works: Mapping[str, Workload], by_bits: Sequence[Workload]
    ) -> list[float]:
        """Counts, which enter as log2(1 + count), since their effect is by factors."""
        whole = sum_workloads(by_bits)
        # Bits of all weights, which is what the file stores.
        packed = sum(bits * work[_WEIGHTS] for bits, work in zip(BIT_WIDTHS, by_bits, strict=True))
        found: list[float] = [macs(whole), whole[_WEIGHTS], whole[_ELEMENTS], packed, *(whole[i] for i in _KERNELS)]
        found += self._space.count_operations(candidate.architecture)
        found += [macs(works.get(unit, ZERO_WORKLOAD)) for unit in self._units]
        found += [candidate.pruned.get(stage, 0) for stage in self._space.stages]
        return found

    def _share_features(self, candidate: Candidate) -> list[float]:
        """Shares and gene values 0..1, which enter unchanged."""
        widths, pruned, bits = candidate.widths, candidate.pruned, candidate.bits
        found = [bits.get(unit, 32) / 32 for unit in self._units]
        found += [pruned[stage] / widths[stage] if stage in widths else 1.0 for stage in self._space.stages]
        for name, numbers, default in self._gene_encodings:
            value = candidate.architecture.get(name, candidate.settings.get(name, default))
            found += numbers.get(len(value) if isinstance(value, list) else value, numbers[None])
        return found


def _work_by_bits(bits_of: Mapping[str, int], works: Mapping[str, Workload]) -> list[Workload]:
    """The workload of the units of each of `BIT_WIDTHS`; a unit without an entry has 32 bits."""
    found: dict[int, list[Workload]] = {width: [] for width in BIT_WIDTHS}
    for unit, work in works.items():
        found[bits_of.get(unit, 32)].append(work)
    return [_work_in_columns(sum_workloads(each), bits) for bits, each in found.items()]


def _work_in_columns(work: Workload, bits: int) -> Workload:
    """The parts that have columns; with INT8, fused layers are added to the memory-bound kernels."""
    own = [*work[:-1]]
    own[_MOVING] += work[-1] if bits == 8 else 0
    return tuple(own)


def macs(work: Workload) -> int:
    """Multiply-accumulates (MACs) of all kinds of layers."""
    return work[_MACS[0]] + work[_MACS[1]] + work[_MACS[2]]


def _encode_gene(gene: Choice) -> dict[Value | None, list[float]]:
    """Option to features: a number to its place 0..1 in the range, a word to an indicator; None, for no value, to 0.

    The first word is the reference and has all indicators 0, as indicators of all words would sum to a constant.
    """
    options = gene.options
    if all(isinstance(option, int | float) for option in options):
        low, high = float(options[0]), float(options[-1])
        return {None: [0.0]} | {option: [(float(option) - low) / (high - low)] for option in options}
    none = [0.0] * (len(options) - 1)
    return {None: none} | {option: [float(option == other) for other in options[1:]] for option in options}
