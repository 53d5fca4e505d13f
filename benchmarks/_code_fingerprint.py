"""A fingerprint of the code behind a sampler, which decides whether kept figures are still valid."""

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler

ROOT = Path(__file__).resolve().parents[1]
"""Folder from which the modules of this project are imported."""
EXTERNAL_PACKAGES = {*sys.stdlib_module_names, "optuna"}


def code_fingerprint(sampler: BaseSampler) -> str:
    """Optuna's version and, for a sampler of this project, a digest of its source.

    The digest covers the files of the sampler's class and of its base classes outside Optuna, and all files of this
    project that they import, directly or not.
    """
    version = f"optuna {optuna.__version__}"
    own = [c for c in type(sampler).__mro__ if c.__module__.partition(".")[0] not in EXTERNAL_PACKAGES]
    files = imported_files(Path(inspect.getfile(c)).resolve() for c in own)
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
    return f"{version}, {digest}" if files else version


def imported_files(start: Iterable[Path]) -> list[Path]:
    """These files and all files of this project that they import, at the top or inside a function, sorted."""
    files: set[Path] = set()
    pending = set(start)
    while pending:
        file = pending.pop()
        files.add(file)
        pending |= set(_direct_imports(file)) - files
    return sorted(files)


def _direct_imports(file: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from filter(None, (_module_file(alias.name) for alias in node.names))
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` depends on the module, not on the package's __init__.py
            package = _module_file(node.module)
            members = [_module_file(f"{node.module}.{alias.name}") for alias in node.names]
            yield from filter(None, (member or package for member in members))


def _module_file(module: str) -> Path | None:
    stem = ROOT.joinpath(*module.split("."))
    return next((f for f in (stem.with_suffix(".py"), stem / "__init__.py") if f.is_file()), None)
