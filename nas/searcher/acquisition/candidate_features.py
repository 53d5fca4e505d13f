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
from search_spaces._work import NOTHING, PARTS, Work, total

Floats = npt.NDArray[np.float64]

WIDTHS = (8, 16, 32)
"""Bit-widths that work is told apart by."""
_PRICED = PARTS[:-1]
COLUMNS = ("fixed", *(f"{part}{bits}" for bits in WIDTHS for part in _PRICED))
"""What additive costs are sums of: 1, and each part of the work in units of each bit-width. In 8 bits, where a grid
lies between two layers, what would join the kernel before is a kernel of its own."""
_KERNELS = [PARTS.index(part) for part in ("dense", "pointwise", "depthwise", "moving")]
_MACS = [PARTS.index(part) for part in ("dense_macs", "pointwise_macs", "depthwise_macs")]
_MOVING = PARTS.index("moving")
_WEIGHTS, _ELEMENTS = PARTS.index("weights"), PARTS.index("elements")


@dataclass(frozen=True, kw_only=True)
class Description:
    """One candidate.

    Attributes:
        columns: [len(COLUMNS)], all 0 or more.
        traits: [d] what tells nets of one space apart, of any size.
    """

    columns: Floats
    traits: Floats


class Describer:
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
        self._words = [(g.name, _numbers(g), neutral.get(g.name)) for g in plain if len(g.options) > 1]

    def __call__(self, candidate: Candidate) -> Description:
        """The description; quick, so nothing is kept."""
        return self.all([candidate])[0]

    def all(self, candidates: Sequence[Candidate]) -> list[Description]:
        """The descriptions of some candidates, quicker than one by one."""
        if not candidates:
            return []
        works = [
            self._space.work(c.architecture, input_shape=self._input_shape, classes=self._classes, widths=c.pruned)
            for c in candidates
        ]
        by_bits = [_by_bits(c.bits, each) for c, each in zip(candidates, works, strict=True)]
        counts = np.array([self._counts(*each) for each in zip(candidates, works, by_bits, strict=True)], np.float64)
        shares = np.array([self._shares(c) for c in candidates], np.float64)
        columns = np.array([(1, *chain(*each)) for each in by_bits], np.float64)
        traits = np.concatenate([np.log2(1.0 + counts), shares], axis=1)
        return [Description(columns=c, traits=t) for c, t in zip(columns, traits, strict=True)]

    def _counts(self, candidate: Candidate, works: Mapping[str, Work], by_bits: Sequence[Work]) -> list[float]:
        """What is told by its logarithm."""
        whole = total(by_bits)
        packed = sum(bits * work[_WEIGHTS] for bits, work in zip(WIDTHS, by_bits, strict=True))
        found: list[float] = [macs(whole), whole[_WEIGHTS], whole[_ELEMENTS], packed, *(whole[i] for i in _KERNELS)]
        found += self._space.count(candidate.architecture)
        found += [macs(works.get(unit, NOTHING)) for unit in self._units]
        found += [candidate.pruned.get(stage, 0) for stage in self._space.stages]
        return found

    def _shares(self, candidate: Candidate) -> list[float]:
        """What is told as it is, 0..1."""
        widths, pruned, bits = candidate.widths, candidate.pruned, candidate.bits
        found = [bits.get(unit, 32) / 32 for unit in self._units]
        found += [pruned[stage] / widths[stage] if stage in widths else 1.0 for stage in self._space.stages]
        for name, numbers, default in self._words:
            value = candidate.architecture.get(name, candidate.settings.get(name, default))
            found += numbers.get(len(value) if isinstance(value, list) else value, numbers[None])
        return found


def _by_bits(bits_of: Mapping[str, int], works: Mapping[str, Work]) -> list[Work]:
    """The work in units of each of `WIDTHS`."""
    found: dict[int, list[Work]] = {width: [] for width in WIDTHS}
    for unit, work in works.items():
        found[bits_of.get(unit, 32)].append(work)
    return [_priced(total(each), bits) for bits, each in found.items()]


def _priced(work: Work, bits: int) -> Work:
    """The parts that have columns, at a bit-width."""
    own = [*work[:-1]]
    own[_MOVING] += work[-1] if bits == 8 else 0
    return tuple(own)


def macs(work: Work) -> int:
    """Multiply-accumulates of all kinds."""
    return work[_MACS[0]] + work[_MACS[1]] + work[_MACS[2]]


def _numbers(gene: Choice) -> dict[Value | None, list[float]]:
    """The values of a gene as numbers: its place among numbers, which of the words it is; 0 where there is none."""
    options = gene.options
    if all(isinstance(option, int | float) for option in options):
        low, high = float(options[0]), float(options[-1])
        return {None: [0.0]} | {option: [(float(option) - low) / (high - low)] for option in options}
    none = [0.0] * (len(options) - 1)
    return {None: none} | {option: [float(option == other) for other in options[1:]] for option in options}
