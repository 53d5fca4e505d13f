"""Search for small, fast facial-expression nets, and hold what is found: real ONNX files with measured figures.

The whole life, in five lines:

    import nas
    run = nas.search(target="jetson", budget="30m")     # rerun to go on; or nas.load_run("runs/NAME")
    run.front                                           # a pandas DataFrame: the Pareto front, fastest first
    run.records                                         # another: every candidate, the infeasible and failed too
    nas.export(run, out="my_model")                     # model.onnx, model card, golden pair of the knee

The command line does the same: `nas search --target jetson`, `nas pick`, `nas export`; see `nas --help`.

Names are loaded at first use, so that `import nas` is quick. `nas.search`, `nas.export` and `nas.measure` are the
functions; the modules of these names are reached by `from nas.searcher.searcher import ...`.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import compress, export, measure, search
    from nas.config import SearchConfig, make_config
    from nas.errors import NasError
    from nas.results.run import Run, load_run

__all__ = ["NasError", "Run", "SearchConfig", "compress", "export", "load_run", "make_config", "measure", "search"]

try:
    __version__ = version("fer-nas")
except PackageNotFoundError:  # used from a checkout without being installed
    __version__ = "0+unknown"


class _Face(ModuleType):
    """Keeps `nas.search` the function when a module of the same name is imported and would take its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name in {"search", "compress", "export", "measure"}:
        from nas import api

        return getattr(api, name)
    if name in {"Run", "load_run"}:
        from nas.results import run

        return getattr(run, name)
    if name in {"SearchConfig", "make_config"}:
        from nas import config

        return getattr(config, name)
    if name == "NasError":
        from nas.errors import NasError

        return NasError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Face
