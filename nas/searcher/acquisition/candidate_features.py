"""A candidate in numbers, in under a tenth of a millisecond: what its net has to do, and what a guesser learns from.

Nothing is built. The numbers describe; every figure that is reported is read off a file.
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
"""Bit-widths that work is told apart by."""
_COLUMN_PARTS = WORKLOAD_FIELDS[:-1]
COST_COLUMNS = ("fixed", *(f"{part}{bits}" for bits in BIT_WIDTHS for part in _COLUMN_PARTS))
"""What additive costs are sums of: 1, and each part of the work in units of each bit-width. In 8 bits, where a grid
lies between two layers, what would join the kernel before is a kernel of its own."""
_KERNELS = [WORKLOAD_FIELDS.index(part) for part in ("dense", "pointwise", "depthwise", "moving")]
_MACS = [WORKLOAD_FIELDS.index(part) for part in ("dense_macs", "pointwise_macs", "depthwise_macs")]
_MOVING = WORKLOAD_FIELDS.index("moving")
_WEIGHTS, _ELEMENTS = WORKLOAD_FIELDS.index("weights"), WORKLOAD_FIELDS.index("elements")


@dataclass(frozen=True, kw_only=True)
class CandidateFeatures:
    """One candidate.

    Attributes:
        columns: [len(COLUMNS)], all 0 or more.
        traits: [d] what tells nets of one space apart, of any size.
    """

    cost_columns: Floats
    features: Floats


class FeatureExtractor:
    """Describes the candidates of one search; of all of them by the same traits.

    Args:
        space: whose nets they are.
        genes: all genes of the search.
        neutral: values of compression genes that change nothing.
        input_shape: (C, H, W) of the images.
        classes: how many.
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
        # Genes of stages and cells are seen in what their nets have to do.
        plain = [g for g in genes if "." not in g.name or not g.name.startswith((*space.stages, "sparsity.", "bits."))]
        self._gene_encodings = [(g.name, _encode_gene(g), neutral.get(g.name)) for g in plain if len(g.options) > 1]

    def __call__(self, candidate: Candidate) -> CandidateFeatures:
        """The description; quick, so nothing is kept."""
        return self.extract_all([candidate])[0]

    def extract_all(self, candidates: Sequence[Candidate]) -> list[CandidateFeatures]:
        """The descriptions of some candidates, quicker than one by one."""
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
        traits = np.concatenate([np.log2(1.0 + counts), shares], axis=1)
        return [CandidateFeatures(cost_columns=c, features=t) for c, t in zip(columns, traits, strict=True)]

    def _count_features(
        self, candidate: Candidate, works: Mapping[str, Workload], by_bits: Sequence[Workload]
    ) -> list[float]:
        """What is told by its logarithm."""
        whole = sum_workloads(by_bits)
        packed = sum(bits * work[_WEIGHTS] for bits, work in zip(BIT_WIDTHS, by_bits, strict=True))
        found: list[float] = [macs(whole), whole[_WEIGHTS], whole[_ELEMENTS], packed, *(whole[i] for i in _KERNELS)]
        found += self._space.count_operations(candidate.architecture)
        found += [macs(works.get(unit, ZERO_WORKLOAD)) for unit in self._units]
        found += [candidate.pruned.get(stage, 0) for stage in self._space.stages]
        return found

    def _share_features(self, candidate: Candidate) -> list[float]:
        """What is told as it is, 0..1."""
        widths, pruned, bits = candidate.widths, candidate.pruned, candidate.bits
        found = [bits.get(unit, 32) / 32 for unit in self._units]
        found += [pruned[stage] / widths[stage] if stage in widths else 1.0 for stage in self._space.stages]
        for name, numbers, default in self._gene_encodings:
            value = candidate.architecture.get(name, candidate.settings.get(name, default))
            found += numbers.get(len(value) if isinstance(value, list) else value, numbers[None])
        return found


def _work_by_bits(bits_of: Mapping[str, int], works: Mapping[str, Workload]) -> list[Workload]:
    """The work in units of each of `BIT_WIDTHS`."""
    found: dict[int, list[Workload]] = {width: [] for width in BIT_WIDTHS}
    for unit, work in works.items():
        found[bits_of.get(unit, 32)].append(work)
    return [_work_in_columns(sum_workloads(each), bits) for bits, each in found.items()]


def _work_in_columns(work: Workload, bits: int) -> Workload:
    """The parts that have columns, at a bit-width."""
    own = [*work[:-1]]
    own[_MOVING] += work[-1] if bits == 8 else 0
    return tuple(own)


def macs(work: Workload) -> int:
    """Multiply-accumulates of all kinds."""
    return work[_MACS[0]] + work[_MACS[1]] + work[_MACS[2]]


def _encode_gene(gene: Choice) -> dict[Value | None, list[float]]:
    """The values of a gene as numbers: its place among numbers, which of the words it is; 0 where there is none."""
    options = gene.options
    if all(isinstance(option, int | float) for option in options):
        low, high = float(options[0]), float(options[-1])
        return {None: [0.0]} | {option: [(float(option) - low) / (high - low)] for option in options}
    none = [0.0] * (len(options) - 1)
    return {None: none} | {option: [float(option == other) for other in options[1:]] for option in options}
