"""A candidate: one architecture and how it is compressed, with a key that tells whether two candidates are the same.

Compression genes are named `sparsity.<stage>` (0 to 0.75, structured) and `bits.<stage>` (also for stem and head). A
sparsity is resolved into the width that remains on the target's channel grid, so two sparsities that leave the same
channels are one candidate. All other genes of the compressors are `settings`; those that change nothing are left out.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from search_spaces._base import HEAD, STEM, Architecture, SearchSpace, Value

SPARSITIES = (0.0, 0.25, 0.5, 0.75)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One net, fully described. Frozen; equal keys mean equal nets (weights and unused genes are ignored).

    Attributes:
        space: the search space's name.
        architecture: canonical, as `SearchSpace.decode` returned it.
        widths: channels of each stage as trained at first, from `SearchSpace.widths`.
        pruned: channels of each stage after pruning; equal to `widths` where nothing is pruned.
        bits: bit-width of `stem`, each stage in use, and `head`.
        settings: further genes of compressors that have an effect, by name, as `Compressor.effective_settings` returned them.
    """

    space: str
    architecture: Architecture
    widths: dict[str, int]
    pruned: dict[str, int]
    bits: dict[str, int]
    settings: dict[str, Value] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits that name this candidate."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def sparsity(self) -> float:
        """Share of the body's channels that pruning removes, 0..1, averaged over the stages."""
        return 1 - sum(self.pruned[s] / w for s, w in self.widths.items()) / len(self.widths)

    @property
    def is_pruned(self) -> bool:
        """Whether any channel is removed."""
        return self.pruned != self.widths

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; without settings where there are none."""
        names = CANDIDATE_FIELDS if self.settings else CANDIDATE_FIELDS[:-1]
        found = {name: getattr(self, name) for name in names}
        return _ENCODER.encode(found)

    def with_min_bits(self, bits: int) -> "Candidate":
        """The same net with every unit of fewer than `bits` bits at `bits`: its float twin."""
        return replace(self, bits={unit: max(width, bits) for unit, width in self.bits.items()})

    @classmethod
    def from_json(cls, text: str) -> "Candidate":
        """The inverse of `to_json`."""
        found: dict[str, Any] = json.loads(text)
        return cls(**found)


CANDIDATE_FIELDS = tuple(each.name for each in fields(Candidate))
"""What a candidate is made of; the settings come last."""

SettingsRule = Callable[[Mapping[str, Value], "Candidate"], dict[str, Value]]
"""(pick, candidate so far) to the further settings that have an effect on it."""


def decode(
    space: SearchSpace,
    picked: Mapping[str, Value],
    *,
    channel_multiple: int,
    precisions: tuple[int, ...],
    settings_rules: Iterable[SettingsRule] = (),
) -> Candidate:
    """The candidate of a pick over the space's and the compression's genes.

    Args:
        space: of the architecture.
        picked: a value for each gene.
        channel_multiple: grid of the channel counts.
        precisions: bit-widths of the target; units without a gene get the widest.
        settle: each compressor's reading of its further genes.

    Raises:
        DisconnectedError: there is no path from the input to the output.
    """
    architecture = space.decode(picked)
    widths = space.widths(architecture)
    pruned = {s: pruned_width(w, float(picked.get(f"sparsity.{s}", 0.0)), channel_multiple) for s, w in widths.items()}
    bits = {unit: int(picked.get(f"bits.{unit}", max(precisions))) for unit in (STEM, *widths, HEAD)}
    plain = Candidate(space=space.name, architecture=architecture, widths=widths, pruned=pruned, bits=bits)
    settings: dict[str, Value] = {}
    for member in settings_rules:
        settings.update(member(picked, plain))
    return replace(plain, settings=settings)


def pruned_width(width: int, sparsity: float, channel_multiple: int) -> int:
    """Channels left of `width` when `sparsity` of them go: all for 0, else on the grid, at least one step if it fits.

    Raises:
        ValueError: `sparsity` is outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be in [0, 1), but got {sparsity}; 0 keeps every channel")
    if sparsity == 0:
        return width
    steps = max(1, round(width * (1 - sparsity) / channel_multiple))
    return min(width, steps * channel_multiple)
