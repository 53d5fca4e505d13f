"""The families and their members: a module without a leading underscore in a family's folder is a member.

A member ends with one constant (`SPACE`, `DATASET`, ...), and its file name is the word on the command line. Nothing is
registered by hand, and this is the only user of importlib.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nas.errors import ConfigError, UnknownMemberError

FAMILIES: dict[str, tuple[str, str]] = {
    "space": ("search_spaces", "SPACE"),
    "target": ("hw_profiles", "PROFILES"),
    "dataset": ("nas.data.datasets", "DATASET"),
    "runtime": ("nas.runtimes.backends", "RUNTIME"),
    "compressor": ("nas.compression.compressors", "COMPRESSOR"),
    "importance": ("nas.compression.importance", "IMPORTANCE"),
    "sampler": ("nas.searcher.samplers", "make"),
    "lesson": ("nas.distillation.methods", "LESSON"),
    "model": ("nas.models.zoo", "MODEL"),
    "proxy": ("nas.evaluation.proxies", "PROXY"),
}


def names(family: str) -> tuple[str, ...]:
    """The members of a family, sorted.

    Raises:
        UnknownMemberError: `family` is not one of `FAMILIES`.
    """
    package, _ = _family(family)
    path = importlib.import_module(package).__path__
    return tuple(sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_")))


def load(family: str, name: str) -> Any:
    """The constant that the member `name` ends with.

    Raises:
        UnknownMemberError: the family has no such member; the message lists those it has.
    """
    package, constant = _family(family)
    if name not in names(family):
        raise UnknownMemberError(
            f"{family} must be one of {', '.join(names(family))}, but got {name!r}{near(name, names(family))}"
        )
    return getattr(importlib.import_module(f"{package}.{name}"), constant)


def near(word: str, known: Iterable[str]) -> str:
    """A question after the one known word that looks like this one, to end a message with; empty without one."""
    found = get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def factory(word: str) -> Callable[..., Any]:
    """The function that `package.module:function` names; modules are looked for in the current folder too.

    Raises:
        ConfigError: the word is of another form, there is no such module or function, or importing it fails.
    """
    module, _, name = word.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ConfigError(f"a factory must be package.module:function, but got {word!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Callable[..., Any] | None = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # it is someone else's code
        raise ConfigError(
            f"factory {word} must be importable from {here} or an installed package, but importing {module} raised "
            f"{type(error).__name__}: {error}"
        ) from None
    if not callable(found):
        raise ConfigError(f"factory {word} must name a function of {module}, but {name!r} is none there")
    return found


def _family(family: str) -> tuple[str, str]:
    if family not in FAMILIES:
        raise UnknownMemberError(f"family must be one of {', '.join(FAMILIES)}, but got {family!r}")
    return FAMILIES[family]
