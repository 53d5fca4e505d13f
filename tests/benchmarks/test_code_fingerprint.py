"""The fingerprint of a sampler's code: which changes invalidate kept figures, and which do not."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler

from benchmarks import _code_fingerprint
from benchmarks._code_fingerprint import code_fingerprint, imported_files
from benchmarks._local_search import LocalSearch
from benchmarks._variants import ablated_sampler_factory
from nas.searcher.samplers.screened import ScreenedSampler

FILES = {
    "ours_base.py": "from optuna.samplers import RandomSampler\nfrom ours_parts import improvement\n"
    "class Base(RandomSampler):\n    pass\n",
    "ours_outer.py": "import json\nfrom ours_base import Base\nclass Outer(Base):\n    pass\n",
    "ours_parts/__init__.py": "",
    "ours_parts/improvement.py": "def improvement():\n    from ours_parts.late import LATE\n    return LATE\n",
    "ours_parts/late.py": "import ours_outer\nLATE = 1\n",
    "ours_parts/unused.py": "UNUSED = 1\n",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with two classes, one derived from the other, and modules that they import."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_code_fingerprint, "ROOT", tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("ours_")]:
        del sys.modules[name]


def outer() -> BaseSampler:
    sampler: BaseSampler = import_module("ours_outer").Outer()
    return sampler


@pytest.mark.parametrize(
    ("changed", "matters"),
    [
        ("ours_outer.py", True),
        ("ours_base.py", True),
        ("ours_parts/improvement.py", True),
        ("ours_parts/late.py", True),
        ("ours_parts/__init__.py", False),
        ("ours_parts/unused.py", False),
    ],
)
def test_changes_of_imported_files_change_the_fingerprint(root: Path, changed: str, matters: bool) -> None:
    before = code_fingerprint(outer())
    assert code_fingerprint(outer()) == before
    (root / changed).write_text(FILES[changed] + "# another line\n")
    assert (code_fingerprint(outer()) != before) == matters


def test_the_fingerprint_of_an_optuna_sampler_is_the_version() -> None:
    assert code_fingerprint(RandomSampler()) == f"optuna {optuna.__version__}"


def test_an_ablation_depends_on_the_sampler_and_on_the_ablations_file() -> None:
    root = Path(_code_fingerprint.ROOT)
    sampler_files = set(imported_files([root / "nas/searcher/samplers/screened.py"]))
    assert {
        root / "nas" / name
        for name in ("pareto.py", "searcher/acquisition/subsample.py", "searcher/acquisition/expected_improvement.py")
    } <= sampler_files
    assert not sampler_files & set((root / "benchmarks").iterdir())
    assert set(imported_files([root / "benchmarks/_variants.py"])) == sampler_files | {root / "benchmarks/_variants.py"}
    assert code_fingerprint(ablated_sampler_factory("random-start")(0)) != code_fingerprint(ScreenedSampler(seed=0))


def test_local_search_does_not_depend_on_the_default_sampler() -> None:
    root = Path(_code_fingerprint.ROOT)
    own = {root / "benchmarks/_local_search.py", root / "nas/pareto.py"}
    assert set(imported_files([root / "benchmarks/_local_search.py"])) == own
    assert code_fingerprint(LocalSearch({}, 0)).startswith(f"optuna {optuna.__version__}, ")
