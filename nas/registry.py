"""The families and their members: a module without a leading underscore in a family's folder is a member.

A member ends with one constant (`SPACE`, `DATASET`, ...), and its file name is the word on the command line. Nothing is
registered by hand, and this is the only user of importlib.
"""

import importlib
import pkgutil
from typing import Any

from nas.errors import UnknownMemberError

FAMILIES: dict[str, tuple[str, str]] = {
    "space": ("search_spaces", "SPACE"),
    "target": ("hw_profiles", "PROFILES"),
    "dataset": ("nas.data", "DATASET"),
    "runtime": ("nas.runtimes", "RUNTIME"),
    "compressor": ("nas.compressors", "COMPRESSOR"),
    "sampler": ("nas.samplers", "make"),
    "model": ("nas.zoo", "MODEL"),
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
        raise UnknownMemberError(f"{family} must be one of {', '.join(names(family))}, but got {name!r}")
    return getattr(importlib.import_module(f"{package}.{name}"), constant)


def _family(family: str) -> tuple[str, str]:
    if family not in FAMILIES:
        raise UnknownMemberError(f"family must be one of {', '.join(FAMILIES)}, but got {family!r}")
    return FAMILIES[family]
