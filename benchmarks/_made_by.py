"""By which code a sampler proposes: what decides whether figures that were kept are still its own."""

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler

ROOT = Path(__file__).resolve().parents[1]
"""Where the modules of this project lie, by their dotted names."""
EXTERNAL_PACKAGES = {*sys.stdlib_module_names, "optuna"}


def code_fingerprint(sampler: BaseSampler) -> str:
    """Optuna's version; of a sampler of ours also a digest of the files of its class and of those it derives from,
    with all of this project that they import, directly or not."""
    version = f"optuna {optuna.__version__}"
    own = [c for c in type(sampler).__mro__ if c.__module__.partition(".")[0] not in EXTERNAL_PACKAGES]
    files = imported_files(Path(inspect.getfile(c)).resolve() for c in own)
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
    return f"{version}, {digest}" if files else version


def imported_files(first: Iterable[Path]) -> list[Path]:
    """These files and the files of this project that they import, at their top or within a function, sorted."""
    found: set[Path] = set()
    waiting = set(first)
    while waiting:
        file = waiting.pop()
        found.add(file)
        waiting |= set(_direct_imports(file)) - found
    return sorted(found)


def _direct_imports(file: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from filter(None, (_module_file(alias.name) for alias in node.names))
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = _module_file(node.module)  # of a package whose modules are imported, its own file does not matter
            parts = [_module_file(f"{node.module}.{alias.name}") for alias in node.names]
            yield from filter(None, (part or whole for part in parts))


def _module_file(module: str) -> Path | None:
    place = ROOT.joinpath(*module.split("."))
    return next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()), None)
