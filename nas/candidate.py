"""Candidate: one architecture and its compression, with a key that is equal for equal networks.

Compression genes are named `sparsity.<stage>` (0 to 0.75, structured) and `bits.<stage>` (also for stem and head). A
sparsity is resolved into the width that remains on the target's channel grid, so two sparsities that leave the same
channels give the same candidate. The compressors' other genes become `settings`, without those that have no effect.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from search_spaces._base import HEAD, STEM, Architecture, SearchSpace, Value

SPARSITIES = (0.0, 0.25, 0.5, 0.75)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One network, fully described. Equal keys mean equal networks; weights and unused genes do not count.

    Attributes:
        space: the search space's name.
        architecture: canonical, as `SearchSpace.decode` returned it.
        widths: channels of each stage before pruning, from `SearchSpace.widths`.
        pruned: channels of each stage after pruning; equal to `widths` where nothing is pruned.
        bits: bit-width of `stem`, each stage in use, and `head`.
        settings: further genes of compressors that have an effect, by name, as `Compressor.effective_settings` returned
            them.
    """

    space: str
    architecture: Architecture
    widths: dict[str, int]
    pruned: dict[str, int]
    bits: dict[str, int]
    settings: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what other code computes with.

        Raises:
            ValueError: `widths` and `pruned` are not of the same stages, or a number is impossible.
        """
        if self.pruned and self.pruned.keys() != self.widths.keys():
            raise ValueError(
                f"pruned must name the stages {', '.join(self.widths)}, but names {', '.join(self.pruned)}"
            )
        if not all(1 <= self.pruned.get(stage, width) <= width for stage, width in self.widths.items()):
            raise ValueError(f"1 to {self.widths} channels must remain after pruning, but {self.pruned} do")
        if min(self.bits.values(), default=1) < 1:
            raise ValueError(f"bits must be above 0, but are {self.bits}")
        _check_finite("architecture", self.architecture)
        _check_finite("settings", self.settings)

    @cached_property
    def key(self) -> str:
        """Identity of the candidate: 16 hexadecimal digits of the SHA-256 of its JSON form.

        With 64 bits, two of a million candidates collide with a probability of 3e-8.
        """
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def sparsity(self) -> float:
        """Share of channels that pruning removes, 0..1, averaged over the stages without stem and head."""
        return 1 - sum(self.pruned[s] / w for s, w in self.widths.items()) / len(self.widths)

    @property
    def is_pruned(self) -> bool:
        """Whether any channel is removed."""
        return self.pruned != self.widths

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, and no settings where there are none."""
        names = CANDIDATE_FIELDS if self.settings else CANDIDATE_FIELDS[:-1]
        return _ENCODER.encode({name: getattr(self, name) for name in names})

    def with_min_bits(self, bits: int) -> "Candidate":
        """The same network with at least `bits` bits in every unit: with 32 bits, its FP32 baseline."""
        return replace(self, bits={unit: max(width, bits) for unit, width in self.bits.items()})

    @classmethod
    def from_json(cls, text: str) -> "Candidate":
        """The inverse of `to_json`."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields)


CANDIDATE_FIELDS = tuple(field.name for field in fields(Candidate))
"""Names of a candidate's fields; `settings` is the last."""

SettingsRule = Callable[[Mapping[str, Value], "Candidate"], dict[str, Value]]
"""(gene values, candidate without settings) to the settings that have an effect on it."""


def _check_finite(name: str, values: Mapping[str, Any]) -> None:
    if not _is_finite(values):
        raise ValueError(f"{name} must hold finite numbers only, but is {values}")


def _is_finite(value: Any) -> bool:
    """Whether every fraction in a JSON value is finite."""
    kind = type(value)  # some thousand candidates a second are made, and `isinstance` of an abstract class is slow
    if kind is dict:
        return all(map(_is_finite, value.values()))
    if kind is list or kind is tuple:
        return all(map(_is_finite, value))
    return kind is not float or math.isfinite(value)


def decode(
    space: SearchSpace,
    picked: Mapping[str, Value],
    *,
    channel_multiple: int,
    precisions: tuple[int, ...],
    settings_rules: Iterable[SettingsRule] = (),
) -> Candidate:
    """The candidate of gene values of the space and the compressors.

    Args:
        space: of the architecture.
        picked: a value for each gene.
        channel_multiple: grid of the channel counts.
        precisions: bit-widths of the target; units without a gene get the widest.
        settings_rules: each compressor's rule for its further genes.

    Raises:
        DisconnectedError: there is no path from the input to the output.
    """
    architecture = space.decode(picked)
    widths = space.widths(architecture)
    pruned = {s: pruned_width(w, float(picked.get(f"sparsity.{s}", 0.0)), channel_multiple) for s, w in widths.items()}
    bits = {unit: int(picked.get(f"bits.{unit}", max(precisions))) for unit in (STEM, *widths, HEAD)}
    plain = Candidate(space=space.name, architecture=architecture, widths=widths, pruned=pruned, bits=bits)
    settings: dict[str, Value] = {}
    for rule in settings_rules:
        settings.update(rule(picked, plain))
    if not settings:
        return plain
    _check_finite("settings", settings)
    # As `replace` does, without checking the other fields again: a proposal decodes hundreds of candidates.
    candidate = object.__new__(Candidate)
    candidate.__dict__.update({name: getattr(plain, name) for name in CANDIDATE_FIELDS} | {"settings": settings})
    return candidate


def pruned_width(width: int, sparsity: float, channel_multiple: int) -> int:
    """Channels that remain of `width` at a sparsity: all at 0, otherwise the nearest multiple on the grid.

    At least one step of the grid remains, and never more than `width`, which need not lie on the grid itself.

    Args:
        width: channels before pruning.
        sparsity: share of channels to remove, in [0, 1).
        channel_multiple: step of the grid.

    Raises:
        ValueError: `sparsity` is outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be in [0, 1), but got {sparsity}; 0 keeps every channel")
    if sparsity == 0:
        return width
    steps = max(1, round(width * (1 - sparsity) / channel_multiple))
    return min(width, steps * channel_multiple)
