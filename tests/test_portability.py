"""Systems without fcntl, resource and os.fork, such as Windows: the package imports, drafts and searches there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ABSENT = ("fcntl", "resource", "termios", "pwd", "grp")
"""Modules of the standard library that Windows does not have."""
CODE = f"""
import os, signal, sys, warnings
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

for name in {ABSENT!r}:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Absent())
for name in ("fork", "getuid", "sched_getaffinity", "sched_setaffinity", "getloadavg"):
    delattr(os, name)
del signal.SIGHUP
# Here filelock takes its portable lock instead of that of Windows, and says so.
warnings.filterwarnings("ignore", "only soft file lock is available")

import nas
import pytest
from importlib import import_module
from pathlib import Path
from nas.searcher.assembly import assemble
from nas.searcher.searcher import search
from tests.tiny_search import FACES, TINY, make_quick

make_quick(pytest.MonkeyPatch())
import_module("nas.searcher.assembly").load_data = lambda *_, **__: FACES
config = nas.make_config(**(TINY | {{"runs": Path(sys.argv[1]), "trials": 2}}))
parts = assemble(config)
candidate = parts.compression.decode(parts.space, parts.space.initial_configurations(channel_multiple=8)[0])
print("drafted", parts.evaluator.evaluate_untrained(candidate).size_bytes > 0)
folder = search(config)
with folder.driven():
    try:
        with folder.driven():
            print("driven twice")
    except nas.NasError:
        print("driven once")
print("searched", [r.status for r in folder.records() if r.phase == "search"])
from nas.cli.main import main
sys.argv = ["nas", "report", str(folder.path)]
main()
"""


@pytest.mark.slow  # eight seconds on an idle machine, most of it imports
def test_package_imports_drafts_and_searches(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:3] == ["drafted True", "driven once", "searched ['complete', 'complete']"], result.stdout
