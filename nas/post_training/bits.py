"""Bit-widths of a model's parts: what a user asks for (`--bits stem=32,head=32`), and a plan for every unit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hw_profiles._base import FLOAT16_BITS, FLOAT32_BITS, INT8_BITS
from nas.errors import ConfigError
from nas.models.layer_patterns import match_layers

BIT_WIDTHS = (INT8_BITS, FLOAT16_BITS, FLOAT32_BITS)


@dataclass(frozen=True, kw_only=True)
class BitsRequest:
    """Bit-widths that a user asks for.

    Attributes:
        base: of everything that has none of its own; None leaves the choice to the measured gain.
        pins: (unit or pattern of layer names, bit-width), in the order given.
    """

    base: int | None = None
    pins: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class BitsPlan:
    """Bit-width of every unit, and of single layers that differ from their unit.

    Attributes:
        units: by unit.
        layers: by name of the layer.
    """

    units: Mapping[str, int]
    layers: Mapping[str, int] = field(default_factory=dict)

    @property
    def widths(self) -> frozenset[int]:
        """All bit-widths that occur."""
        return frozenset({*self.units.values(), *self.layers.values()})

    def describe(self) -> str:
        """The plan in words: "8 bits: stage1, stage2; 32 bits: stem, head"."""
        names = {**self.units, **self.layers}
        widths = sorted(self.widths)
        if len(widths) == 1:
            return f"{widths[0]} bits everywhere"
        return "; ".join(
            f"{width} bits: {', '.join(name for name, own in names.items() if own == width)}" for width in widths
        )


def parse_bits(text: str | None) -> BitsRequest:
    """The request in text such as "8", "stem=32,head=32" or "8,blocks.3.*=32"; None and "auto" ask for a choice.

    Raises:
        ConfigError: a bit-width is not 8, 16 or 32, or two are given for everything.

    Examples:
        >>> parse_bits("8,stem=32")
        BitsRequest(base=8, pins=(('stem', 32),))
        >>> parse_bits("stem=4")
        Traceback (most recent call last):
        nas.errors.ConfigError: --bits must be 8, 16 or 32, alone or as NAME=BITS, but got 'stem=4'
    """
    base: int | None = None
    pins: list[tuple[str, int]] = []
    for word in [] if text in (None, "auto") else str(text).split(","):
        name, equals, number = word.strip().rpartition("=")
        if number not in map(str, BIT_WIDTHS) or (equals and not name) or (not equals and base is not None):
            raise ConfigError(f"--bits must be 8, 16 or 32, alone or as NAME=BITS, but got {word!r}")
        if equals:
            pins.append((name, int(number)))
        else:
            base = int(number)
    return BitsRequest(base=base, pins=tuple(pins))


def resolve_pins(
    request: BitsRequest, *, units: Sequence[str], layers: Mapping[str, str]
) -> tuple[dict[str, int], dict[str, int]]:
    """The pinned units and the pinned layers of a request; of several pins the last one counts.

    Args:
        request: what was asked for.
        units: units of the model.
        layers: layers of the model, as in `match_layers`.

    Raises:
        ConfigError: a name is no unit and matches no layer.
    """
    by_unit: dict[str, int] = {}
    by_layer: dict[str, int] = {}
    for name, width in request.pins:
        if name in units:
            by_unit[name] = width
        else:
            by_layer.update(dict.fromkeys(sorted(match_layers([name], layers, option="--bits")), width))
    return by_unit, by_layer
