"""Patterns of layer names: `--keep 'blocks.3.*'` and `--bits 'blocks.3.*=32'` resolved to the layers of a net."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import fx, nn

from nas.errors import ConfigError
from nas.registry import near
from search_spaces._base import HEAD, STEM
from search_spaces._leaf import Leaf

LISTED_NAMES = 12
"""Names that an error message lists."""


def layer_names(net: nn.Module) -> dict[str, str]:
    """The layers of a net in units, pre-processing aside: name in the net to the name in the user's own code.

    The units of a published net are in its own names, those of other nets were put in front of them.
    """
    is_split_here, names = isinstance(net, fx.GraphModule), dict[str, str]()
    for name, module in net.named_modules():
        unit, _, rest = name.partition(".")
        is_layer = rest and is_unit(unit) and (isinstance(module, Leaf) or not any(module.children()))
        if is_layer and not any(name.startswith(f"{known}.") for known in names):
            names[name] = rest if is_split_here else name
    return names


def match_layers(patterns: Sequence[str], names: Mapping[str, str] | Iterable[str], *, option: str) -> frozenset[str]:
    """Names that match at least one pattern, each of which must match something.

    A pattern is matched against the whole name, with `*`, `?` and `[...]` as in a shell, and against the names of the
    modules above it: `blocks.3` stands for all layers inside.

    Args:
        patterns: the patterns.
        names: the names, or a mapping of each name to another one that a user may know it by.
        option: what the patterns were given to, for messages.

    Raises:
        ConfigError: a pattern matches nothing; the message names layers that exist.

    Examples:
        >>> sorted(match_layers(["blocks.3.*", "fc"], ["blocks.2.conv", "blocks.3.conv", "fc"], option="--keep"))
        ['blocks.3.conv', 'fc']
        >>> match_layers(["block.3.*"], ["blocks.3.conv"], option="--keep")
        Traceback (most recent call last):
        nas.errors.ConfigError: --keep must name layers of the model, but 'block.3.*' matches none of blocks.3.conv
    """
    known = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
    matched: set[str] = set()
    for pattern in patterns:
        found = {name for name, other in known.items() if _matches(pattern, name) or _matches(pattern, other)}
        if not found:
            words = list(dict.fromkeys(known.values()))
            listed = ", ".join(words[:LISTED_NAMES]) + (
                f" and {len(words) - LISTED_NAMES} more" if len(words) > LISTED_NAMES else ""
            )
            raise ConfigError(
                f"{option} must name layers of the model, but {pattern!r} matches none of {listed}"
                f"{near(pattern, [*words, *known])}"
            )
        matched |= found
    return frozenset(matched)


def unit_names(names: Iterable[str]) -> tuple[str, ...]:
    """Units of layer names, in order: the first word of each."""
    return tuple(dict.fromkeys(name.partition(".")[0] for name in names))


def is_unit(word: str) -> bool:
    """Whether a word names a unit: `stem`, `head`, or a stage."""
    return word in (STEM, HEAD) or (word.startswith("stage") and word.removeprefix("stage").isdigit())


def _matches(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
