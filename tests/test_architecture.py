"""The floors of the house: imports go down only, and some packages have one door. Read from the source with ast.

To add a module, write it on a floor of `FLOORS`. To let a module use a guarded package, add it to `DOORS`.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from nas.registry import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
TREES = ("search_spaces", "hw_profiles", "nas")

# From the ground up. A module may import from lower floors only. A pattern ending in "._*" means the private parts of a
# folder, one ending in ".*" its members; the longest pattern that fits decides. Private parts of one folder share a
# floor and may import each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "search_spaces._*",
        "hw_profiles._*",
        "nas.errors",
        "nas.pareto",
        "nas.median",
        "nas.clock",
        "nas.uncollected",
        "nas.thinning",
    ),
    ("search_spaces", "search_spaces.*", "hw_profiles", "hw_profiles.*"),
    (
        "nas.registry",
        "nas.candidate",
        "nas.config",
        "nas.augment",
        "nas.depthwise",
        "nas.pointwise",
        "nas.rounds",
        "nas.learning_curve",
        "nas.resolved_graph",
        "nas.lessons._*",
        "nas.proxies._*",
        "nas.zoo._*",
    ),
    (
        "nas.data._*",
        "nas.runtimes._*",
        "nas.zoo",
        "nas.zoo.*",
        "nas.costs",
        "nas.recipe",
        "nas.narrowing",
        "nas.lessons",
        "nas.lessons.*",
        "nas.proxies",
        "nas.proxies.*",
    ),
    (
        "nas.data",
        "nas.data.*",
        "nas.runtimes",
        "nas.runtimes.*",
        "nas.targets",
        "nas.execution",
        "nas.measurement",
        "nas.yardstick",
        "nas.host_load",
    ),
    ("nas.score", "nas.measure", "nas.description", "nas.datasets", "nas.data_check", "nas.train"),
    ("nas.latency._*", "nas._*", "nas.gain", "nas.packed", "nas.flat", "nas.timer"),
    ("nas.latency", "nas.latency.*", "nas.export", "nas.records", "nas.cost_guess", "nas.limits"),
    ("nas.before_after", "nas.attempts", "nas.parity", "nas.wording"),
    ("nas.compressors._*", "nas.front", "nas.latency.prediction", "nas.screen"),
    (
        "nas.importance._*",
        "nas.front_table",
        "nas.pace",
        "nas.seeds",
        "nas.status",
        "nas.same_run",
        "nas.storage",
        "nas.gene_importance",
    ),
    ("nas.importance", "nas.importance.*", "nas.ending"),
    ("nas.compressors", "nas.compressors.*", "nas.pick", "nas.run", "nas._report_*", "nas._tables"),
    (
        "nas.chosen_teacher",
        "nas.compression",
        "nas.given",
    ),
    ("nas.trainer", "nas.stopwatch", "nas.allowance"),
    ("nas.draft", "nas.finish"),
    ("nas.pipeline", "nas.untrained", "nas.samplers._*", "nas.report"),
    ("nas.samplers", "nas.samplers.*", "nas.foresight", "nas.doctor", "nas.bundle", "nas.base", "nas._calibration_*"),
    ("nas.teachers", "nas.calibrate", "nas.rungs"),
    ("nas.study",),
    ("nas.distill", "nas.warm_start", "nas.verify", "nas.pilot"),
    ("nas.search",),
    ("nas.api", "nas.terminal", "nas.progress", "nas.dashboard"),
    ("nas",),
    ("nas.commands._*",),
    ("nas.commands", "nas.commands.*"),
    ("nas.cli",),
    ("nas.__main__",),
)

# A guarded package, and who may import it. `importlib.metadata` and `importlib.resources` only read, so they stay free.
DOORS: dict[str, tuple[str, ...]] = {
    "optuna": ("nas.study", "nas.storage", "nas.gene_importance", "nas.samplers.*"),
    "onnxruntime": ("nas.runtimes.*",),
    "tensorrt": ("nas.runtimes.*",),
    "pycuda": ("nas.runtimes.*",),
    "nni": ("nas._nni",),
    "importlib": ("nas.registry",),
    "typer": ("nas.cli", "nas.commands.*"),
    "torch": ("search_spaces*", "nas*"),
}
FREE = ("importlib.metadata", "importlib.resources")

# All that the ground floor may import besides the standard library and itself.
GROUND: dict[str, tuple[str, ...]] = {
    "search_spaces": ("torch",),
    "hw_profiles": ("numpy",),
    "nas.errors": (),
    "nas.pareto": ("numpy",),
}


def violations(root: Path) -> list[str]:
    """One line for each import below `root` that goes where it must not, and each module that stands on no floor."""
    modules = dict(_modules(root))
    return [line for name, module in modules.items() for line in _faults(name, module, modules)]


def test_the_house_keeps_its_floors() -> None:
    assert not violations(ROOT)


def test_every_pattern_of_a_family_has_a_floor() -> None:
    for package, _ in FAMILIES.values():
        members, parts = _floor(f"{package}.member"), _floor(f"{package}._part")
        assert members is not None, f"put {package}.* on a floor"
        assert parts is not None, f"put {package}._* on a floor"
        assert parts < members


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("nas/train.py", "from nas.search import go", "nas.train imports nas.search, which is not below it"),
        ("nas/train.py", "def f():\n    import nas.search", "nas.train imports nas.search, which is not below it"),
        ("nas/train.py", "from . import search", "nas.train imports nas.search, which is not below it"),
        ("nas/train.py", "from nas import search", "nas.train imports nas.search, which is not below it"),
        ("search_spaces/x.py", "import nas.errors", "search_spaces.x imports nas.errors, but search_spaces may only"),
        (
            "search_spaces/x.py",
            "import hw_profiles._base",
            "search_spaces.x imports hw_profiles._base, but search_spaces",
        ),
        ("search_spaces/x.py", "import numpy", "search_spaces.x imports numpy, but search_spaces"),
        ("search_spaces/x.py", "from search_spaces import y", "search_spaces.x imports its sibling search_spaces.y"),
        ("hw_profiles/x.py", "import torch.nn", "hw_profiles.x imports torch.nn, but hw_profiles"),
        ("hw_profiles/x.py", "import nas.pareto", "hw_profiles.x imports nas.pareto, but hw_profiles may only"),
        ("nas/pareto.py", "import pandas", "nas.pareto imports pandas, but nas.pareto may only"),
        ("nas/data/x.py", "from .y import DATASET", "nas.data.x imports its sibling nas.data.y"),
        ("nas/pipeline.py", "from nas.data.x import DATASET", "nas.pipeline imports the member nas.data.x"),
        ("nas/search.py", "import search_spaces.x", "nas.search imports the member search_spaces.x"),
        ("nas/pipeline.py", "import optuna", "nas.pipeline imports optuna, which only"),
        ("nas/export.py", "from onnxruntime import quantization", "nas.export imports onnxruntime, which only"),
        ("nas/compressors/x.py", "import tensorrt", "nas.compressors.x imports tensorrt, which only"),
        ("nas/data/__init__.py", "from .x import DATASET", "nas.data imports the member nas.data.x"),
        ("nas/data/_p.py", "from ..search import go", "nas.data._p imports nas.search, which is not below it"),
        ("nas/search.py", "import importlib", "nas.search imports importlib, which only"),
        ("nas/search.py", "from importlib import util", "nas.search imports importlib, which only"),
        ("nas/search.py", "x = __import__('optuna')", "nas.search calls __import__"),
        ("nas/novelty.py", "", "nas.novelty stands on no floor"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, path: str, source: str, fault: str) -> None:
    for standing in ("nas/search.py", "nas/data/x.py", "nas/data/y.py", "search_spaces/x.py", "search_spaces/y.py"):
        _write(tmp_path / standing, "")
    _write(tmp_path / path, source)

    found = violations(tmp_path)

    assert len(found) == 1
    assert found[0].startswith(fault)


def test_what_goes_down_is_allowed(tmp_path: Path) -> None:
    _write(tmp_path / "nas/errors.py", "")
    _write(tmp_path / "nas/data/_base.py", "from nas.errors import DataError")
    _write(tmp_path / "nas/data/_cache.py", "from ._base import FaceData")
    _write(
        tmp_path / "nas/data/x.py", "import nas.data._cache\nfrom importlib import metadata\nimport importlib.resources"
    )
    _write(tmp_path / "nas/registry.py", "import importlib")
    _write(tmp_path / "nas/runtimes/onnxruntime.py", "import onnxruntime")
    _write(tmp_path / "nas/samplers/x.py", "import optuna.samplers")
    _write(tmp_path / "search_spaces/x.py", "import math\nfrom torch import nn")

    assert not violations(tmp_path)


@dataclass(frozen=True)
class Module:
    """A module's source and the package that its relative imports start from."""

    tree: ast.Module
    package: str


def _faults(name: str, module: Module, modules: dict[str, Module]) -> Iterator[str]:
    if _floor(name) is None:
        yield f"{name} stands on no floor; write it on one in FLOORS of {Path(__file__).name}"
        return
    if any(isinstance(node, ast.Name) and node.id == "__import__" for node in ast.walk(module.tree)):
        yield f"{name} calls __import__; use nas.registry"
    for target in sorted(set(_imports(module, modules))):
        fault = _fault(name, target)
        if fault:
            yield f"{name} imports {fault}"


def _fault(name: str, target: str) -> str | None:
    """Why `name` must not import `target`, or None: the first of the rules that it breaks."""
    package = target.partition(".")[0]
    if package in TREES:
        here, there = _floor(name), _floor(target)
        if there is None or here is None:
            return f"{target}, which stands on no floor"
        if _family(target) and _is_member(target):
            if _family(target) == _family(name) and _is_member(name):
                return f"its sibling {target}; shared parts go into a private module beside them"
            return f"the member {target}; ask nas.registry for it"
        if there >= here and not _are_private_parts_of_one_folder(name, target):
            return f"{target}, which is not below it"
    ground = name if name in GROUND else name.partition(".")[0]
    if ground in GROUND and package not in (*sys.stdlib_module_names, *GROUND[ground], name.partition(".")[0]):
        return f"{target}, but {ground} may only use the standard library {' '.join(('and', *GROUND[ground]))}"
    if package in DOORS and target not in FREE and not any(fnmatchcase(name, who) for who in DOORS[package]):
        return f"{package}, which only {', '.join(DOORS[package])} may"
    return None


def _imports(module: Module, modules: dict[str, Module]) -> Iterator[str]:
    """Dotted names of all modules that a module imports, wherever in it, relative ones made absolute."""
    known = (*modules, *FREE)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(module.package, node)
            names = [f"{base}.{alias.name}" for alias in node.names]
            yield from (full if full in known else base for full in names)


def _base(package: str, node: ast.ImportFrom) -> str:
    """What a `from ... import` starts from, absolute."""
    parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    return ".".join([*parents, *([node.module] if node.module else [])])


def _modules(root: Path) -> Iterator[tuple[str, Module]]:
    for file in sorted(f for top in TREES for f in (root / top).rglob("*.py")):
        path = file.relative_to(root).with_suffix("")
        package = ".".join(path.parts[:-1])
        name = package if path.name == "__init__" else f"{package}.{path.name}"
        yield name, Module(ast.parse(file.read_text(encoding="utf-8"), filename=str(file)), package)


def _floor(name: str) -> int | None:
    fitting = [(len(p), i) for i, floor in enumerate(FLOORS) for p in floor if _fits(name, p)]
    return max(fitting)[1] if fitting else None


def _fits(name: str, pattern: str) -> bool:
    """A star stands for one part of the name: `nas._*` is not `nas.data._base`."""
    return name.count(".") == pattern.count(".") and fnmatchcase(name, pattern)


def _family(name: str) -> str | None:
    parent = name.rpartition(".")[0]
    return parent if parent in {package for package, _ in FAMILIES.values()} else None


def _is_member(name: str) -> bool:
    return not name.rpartition(".")[2].startswith("_")


def _are_private_parts_of_one_folder(a: str, b: str) -> bool:
    same_folder = a.rpartition(".")[0] == b.rpartition(".")[0]
    return same_folder and not _is_member(a) and not _is_member(b)


def _write(file: Path, source: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
