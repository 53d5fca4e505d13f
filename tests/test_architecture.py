"""Architecture of the packages: imports go down the flow only, and some libraries have one door. Read with ast.

A new package of nas/ is written into `FLOORS`; a library that only some may import into `DOORS`.
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

# From the ground up, in the order of the flow: what stands on a floor imports from lower floors only.
FLOORS = """
search_spaces hw_profiles errors pareto intervals
files input_form
registry config candidate runtimes onnx_export
data latency
metrics compression
results
models
distillation targets reporting
training
evaluation
pipeline post_training vision
searcher
dashboard
api
nas
cli
__main__
"""

# The order within a package, from the ground up; what is not named here stands between, in any order without circles.
INSIDE = {
    "runtimes": "time_breakdown base ort|tensorrt board backends",
    "data": "base datasets",
    "latency": "latency measured|predicted",
    "compression": "base pruning|quantization|low_rank nni importance compressors pipeline",
    "models": "blocks zoo",
    "distillation": "losses base methods",
    "evaluation": "proxy proxies",
    "vision": "base detectors",
    "dashboard": "artifacts study_view server",
    "searcher": "acquisition samplers study searcher",
    "cli": "render commands main",
}

# A guarded library, and who may import it. `importlib.metadata` and `importlib.resources` only read, so they are free.
DOORS = {
    "optuna": ("nas.searcher.*", "nas.dashboard.*"),
    "onnxruntime": ("nas.runtimes.*",),
    "tensorrt": ("nas.runtimes.*",),
    "pycuda": ("nas.runtimes.*",),
    "nni": ("nas.compression.nni.*",),
    "importlib": ("nas.registry",),
    "ray": ("nas.searcher.executors.ray",),
    "cv2": ("nas.vision.*",),
    "dlib": ("nas.vision.detectors.dlib",),
    "typer": ("nas.cli.*",),
    "rich": ("nas.cli.*",),
    "torch": ("search_spaces*", "nas*"),
}
FREE = ("importlib.metadata", "importlib.resources")

# Members that are classes of the public API too, and the module that hands them on.
PUBLIC_MEMBERS = {("nas", "nas.searcher.samplers.screened")}

# All that the ground floor may import besides the standard library and itself.
GROUND = {
    "search_spaces": ("torch",),
    "hw_profiles": ("numpy",),
    "nas.errors": (),
    "nas.files": (),
    "nas.pareto": ("numpy",),
    "nas.intervals": ("numpy",),
}


def violations(root: Path) -> list[str]:
    """One line for each import below `root` that goes where it must not, and each module without a floor."""
    modules = dict(_modules(root))
    lines = [line for name, module in modules.items() for line in _faults(name, module, modules)]
    return lines or _circles(modules)


def test_imports_go_down_only() -> None:
    assert not violations(ROOT)


def test_every_family_has_a_floor() -> None:
    assert all(_floor(f"{package}.member") is not None for package, _ in FAMILIES.values())


def test_few_modules_are_flat() -> None:
    assert len(list((ROOT / "nas").glob("*.py"))) <= 12


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("nas/training/loop.py", "from nas.searcher.study import go", "nas.training.loop imports nas.searcher.study, "),
        ("nas/training/loop.py", "def f():\n    import nas.searcher.study", "nas.training.loop imports nas.searcher"),
        ("nas/training/loop.py", "from .. import searcher", "nas.training.loop imports nas.searcher, which is not"),
        ("nas/training/loop.py", "from nas import searcher", "nas.training.loop imports nas.searcher, which is not"),
        ("nas/latency/latency.py", "import nas.latency.measured.timing", "nas.latency.latency imports nas.latency"),
        ("nas/cli/render/x.py", "import nas.cli.commands.run", "nas.cli.render.x imports nas.cli.commands.run"),
        ("search_spaces/x.py", "import nas.errors", "search_spaces.x imports nas.errors, but search_spaces may only"),
        ("search_spaces/x.py", "import hw_profiles._base", "search_spaces.x imports hw_profiles._base, but"),
        ("search_spaces/x.py", "import numpy", "search_spaces.x imports numpy, but search_spaces"),
        ("search_spaces/x.py", "from search_spaces import y", "search_spaces.x imports its sibling search_spaces.y"),
        ("hw_profiles/x.py", "import torch.nn", "hw_profiles.x imports torch.nn, but hw_profiles"),
        ("hw_profiles/x.py", "import nas.pareto", "hw_profiles.x imports nas.pareto, but hw_profiles may only"),
        ("nas/pareto.py", "import pandas", "nas.pareto imports pandas, but nas.pareto may only"),
        ("nas/data/datasets/x.py", "from .y import DATASET", "nas.data.datasets.x imports its sibling nas.data.data"),
        ("nas/pipeline.py", "from nas.data.datasets.x import DATASET", "nas.pipeline imports the member nas.data"),
        ("nas/searcher/study.py", "import search_spaces.x", "nas.searcher.study imports the member search_spaces.x"),
        ("nas/pipeline.py", "import optuna", "nas.pipeline imports optuna, which only"),
        ("nas/data/cache.py", "from onnxruntime import quantization", "nas.data.cache imports onnxruntime, which"),
        ("nas/compression/pipeline.py", "import tensorrt", "nas.compression.pipeline imports tensorrt, which only"),
        ("nas/data/datasets/__init__.py", "from .x import DATASET", "nas.data.datasets imports the member nas.data"),
        ("nas/data/cache.py", "from ..searcher.study import go", "nas.data.cache imports nas.searcher.study, which"),
        ("nas/searcher/study.py", "import importlib", "nas.searcher.study imports importlib, which only"),
        ("nas/searcher/study.py", "from importlib import util", "nas.searcher.study imports importlib, which only"),
        ("nas/searcher/study.py", "x = __import__('optuna')", "nas.searcher.study calls __import__"),
        ("nas/novelty.py", "", "nas.novelty has no floor"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, path: str, source: str, fault: str) -> None:
    for standing in (
        "nas/searcher/study.py",
        "nas/latency/measured/timing.py",
        "nas/cli/commands/run.py",
        "nas/data/datasets/x.py",
        "nas/data/datasets/y.py",
        "search_spaces/x.py",
        "search_spaces/y.py",
    ):
        _write(tmp_path / standing, "")
    _write(tmp_path / "nas/searcher/__init__.py", "")
    _write(tmp_path / path, source)

    found = violations(tmp_path)

    assert len(found) == 1
    assert found[0].startswith(fault)


def test_a_circle_within_a_package_is_found(tmp_path: Path) -> None:
    _write(tmp_path / "nas/data/cache.py", "from nas.data.labelled_files import x")
    _write(tmp_path / "nas/data/labelled_files.py", "from nas.data.images import x")
    _write(tmp_path / "nas/data/images.py", "from nas.data.cache import x")

    (found,) = violations(tmp_path)

    assert found.startswith("nas.data.cache, nas.data.images, nas.data.labelled_files import each other in a circle")


def test_what_goes_down_is_allowed(tmp_path: Path) -> None:
    _write(tmp_path / "nas/errors.py", "")
    _write(tmp_path / "nas/data/base.py", "from nas.errors import DataError")
    _write(tmp_path / "nas/data/cache.py", "from .base import FaceData")
    _write(
        tmp_path / "nas/data/datasets/x.py",
        "import nas.data.cache\nfrom importlib import metadata\nimport importlib.resources",
    )
    _write(tmp_path / "nas/registry.py", "import importlib")
    _write(tmp_path / "nas/runtimes/backends/onnxruntime.py", "import onnxruntime")
    _write(tmp_path / "nas/searcher/samplers/x.py", "import optuna.samplers")
    _write(tmp_path / "search_spaces/x.py", "import math\nfrom torch import nn")

    assert not violations(tmp_path)


@dataclass(frozen=True)
class Module:
    """A module's source and the package that its relative imports start from."""

    tree: ast.Module
    package: str


def _faults(name: str, module: Module, modules: dict[str, Module]) -> Iterator[str]:
    if _floor(name) is None:
        yield f"{name} has no floor; write its package into FLOORS of {Path(__file__).name}"
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
    ground = name if name in GROUND else name.partition(".")[0]
    if ground in GROUND and package not in (*sys.stdlib_module_names, *GROUND[ground], name.partition(".")[0]):
        return f"{target}, but {ground} may only use the standard library {' '.join(('and', *GROUND[ground]))}"
    if package in TREES:
        here, there = _floor(name), _floor(target)
        if there is None or here is None:
            return f"{target}, which has no floor"
        if _is_member(target) and (name, target) not in PUBLIC_MEMBERS:
            if _family(target) == _family(name) and _is_member(name):
                return f"its sibling {target}; shared parts go into the package above"
            return f"the member {target}; ask nas.registry for it"
        if there > here or (there == here and not _is_below(name, target)):
            return f"{target}, which is not below it"
    if package in DOORS and target not in FREE and not any(fnmatchcase(name, who) for who in DOORS[package]):
        return f"{package}, which only {', '.join(DOORS[package])} may"
    return None


def _floor(name: str) -> int | None:
    """The floor of a module's package, from the ground."""
    return _level(_room(name), FLOORS.strip().splitlines())


def _room(name: str) -> str:
    """The package or flat module of nas/ that a module belongs to; for the other trees their name."""
    tree, _, rest = name.partition(".")
    return rest.partition(".")[0] if tree == "nas" and rest else tree


def _is_below(name: str, target: str) -> bool:
    """Whether a module may import another one of its floor: of the same package, not later in the package's order."""
    room = _room(name)
    if room != _room(target):
        return False
    floors = [floor.replace("|", " ") for floor in INSIDE.get(room, "").split()]
    here, there = _level(_part(name), floors), _level(_part(target), floors)
    return here is None or there is None or there < here or (there == here and _part(name) == _part(target))


def _part(name: str) -> str:
    """The module or folder within a package of nas/."""
    return name.split(".")[2] if name.count(".") >= 2 else ""


def _level(word: str, floors: list[str]) -> int | None:
    return next((i for i, floor in enumerate(floors) if word in floor.split()), None)


def _circles(modules: dict[str, Module]) -> list[str]:
    """A line where modules import each other in a circle; a package's own imports of its parts do not count."""
    left = {name: set(_imports(module, modules)) & set(modules) - {name} for name, module in modules.items()}
    while free := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in free}
    return [f"{', '.join(sorted(left))} import each other in a circle, or import one that does"] if left else []


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


def _family(name: str) -> str | None:
    parent = name.rpartition(".")[0]
    return parent if parent in {package for package, _ in FAMILIES.values()} else None


def _is_member(name: str) -> bool:
    return _family(name) is not None and not name.rpartition(".")[2].startswith("_")


def _write(file: Path, source: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
