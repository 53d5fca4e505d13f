"""Registry of the families and their members: each module in a family's folder is a member, unless it begins with "_".

A member ends with its family's constant (`SPACE`, `DATASET`, ...), and its file name is its name on the command line.
Nothing is registered by hand. No other module uses importlib.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from nas.errors import ConfigError, UnknownMemberError, one_line

FAMILIES: dict[str, tuple[str, str]] = {
    "space": ("search_spaces", "SPACE"),
    "target": ("hw_profiles", "PROFILES"),
    "dataset": ("nas.data.datasets", "DATASET"),
    "runtime": ("nas.runtimes.backends", "RUNTIME"),
    "compressor": ("nas.compression.compressors", "COMPRESSOR"),
    "importance": ("nas.compression.importance", "IMPORTANCE"),
    "sampler": ("nas.searcher.samplers", "make"),
    "executor": ("nas.searcher.executors", "EXECUTOR"),
    "method": ("nas.distillation.methods", "METHOD"),
    "model": ("nas.models.zoo", "MODEL"),
    "proxy": ("nas.evaluation.proxies", "PROXY"),
    "detector": ("nas.vision.detectors", "DETECTOR"),
}
"""Folder of each family, and the constant that its members end with."""
TITLES = {"method": "distillation method", "importance": "importance criterion"}
"""What error messages call a family, where its name alone does not tell."""


def names(family: str) -> tuple[str, ...]:
    """Names of a family's members, sorted.

    Raises:
        UnknownMemberError: `family` is not one of `FAMILIES`.

    Examples:
        >>> names("method")
        ('attention', 'bounded', 'dkd', 'hints', 'logits')
    """
    package, _ = _family(family)
    path = importlib.import_module(package).__path__
    return tuple(sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_")))


def load(family: str, name: str) -> Any:
    """The constant that ends the member's module.

    Raises:
        UnknownMemberError: the family has no such member; the message lists those it has.

    Examples:
        >>> load("method", "dkd").name
        'dkd'
    """
    package, constant = _family(family)
    if name not in names(family):
        raise UnknownMemberError(
            f"{TITLES.get(family, family)} must be one of {', '.join(names(family))}, but got {name!r}"
            f"{near(name, names(family))}"
        )
    return getattr(importlib.import_module(f"{package}.{name}"), constant)


def near(word: str, known: Iterable[str]) -> str:
    """The end of an error message: a question after the known word that is closest to this one, or an empty string.

    Examples:
        >>> near("quantise", ["quantize", "low_rank"])
        "; did you mean 'quantize'?"
    """
    matches = get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def factory(word: str) -> Callable[..., Any]:
    """The function named by "package.module:function" or "file.py:function".

    The current folder is searched for modules too, and the folder of a file for what the file imports.

    Raises:
        ConfigError: the word has another form, there is no such module or function, or importing it fails.
    """
    module, _, name = word.rpartition(":")
    is_file = module.endswith(".py")
    words = (name,) if is_file else (*module.split("."), name)
    if not all(part.isidentifier() for part in words):
        raise ConfigError(f"a factory must be package.module:function or file.py:function, but got {word!r}")
    if is_file and not Path(module).is_file():
        raise ConfigError(f"factory {word} must be in a Python file, but {module} does not exist; check the path")
    folder = str(Path(module).resolve().parent if is_file else Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        loaded = _load_file(Path(module)) if is_file else importlib.import_module(module)
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            f"factory {word} must be importable from {folder} or an installed package, but importing {module} raised "
            f"{type(error).__name__}: {one_line(error)}"
        ) from None
    function: Callable[..., Any] | None = getattr(loaded, name, None)
    if not callable(function):
        raise ConfigError(f"factory {word} must name a function of {module}, but {name!r} is none there")
    return function


def _load_file(file: Path) -> ModuleType:
    """A module of its own for a file: one of the same name that is imported already must not stand in for it."""
    name = f"_factory_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their classes up by module
    spec.loader.exec_module(module)
    return module


def _family(family: str) -> tuple[str, str]:
    if family not in FAMILIES:
        raise UnknownMemberError(f"family must be one of {', '.join(FAMILIES)}, but got {family!r}")
    return FAMILIES[family]
