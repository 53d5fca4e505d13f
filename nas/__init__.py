"""Search for small, fast facial-expression networks, and get ONNX files with measured figures.

Functions:

    nas.search(target="jetson", budget="30m")       search architectures, and return the run; call again to resume
    nas.compress("resnet18", weights="w.pt")        search how far a given model can be pruned and quantised
    nas.train("resnet10", teacher=("teacher.onnx",))  train one model whole, from teachers where there are any
    nas.quantize("model.onnx")                      INT8 where it is measured to pay, in seconds, without training
    nas.prune("resnet18", weights="w.pt")           remove half of the channels, with a short fine-tuning
    nas.load_run("runs/NAME")                       open the run of an earlier search
    nas.pick(run, max_latency="5ms")                choose one member of the Pareto front, with the reason
    nas.export(run, out="my_model")                 write a member as model.onnx with model card and golden pair
    nas.predict("model.onnx", "photo.jpg")          faces of pictures, videos and cameras, labelled by a model
    nas.measure("model.onnx", target="cpu")         latency of an ONNX file, measured or predicted
    nas.table(run, other_run)                       size, accuracy and speed of the fronts as a pandas DataFrame
    nas.report(run, baselines=["net.onnx"])         HTML report, with published models beside the front

A whole session:

    import nas
    run = nas.search(target="jetson", max_latency="5ms", budget="30m")
    run.front                                       # a pandas DataFrame: the Pareto front, fastest first
    run.records                                     # every candidate, infeasible and failed ones included
    nas.export(run, nas.pick(run, max_latency="2ms"), out="my_model")

The command line offers the same: `nas search --target jetson`, `nas pick`, `nas export`; see `nas --help`.

`SearchConfig` and `make_config` hold the settings of a search, `Run` is a run, `ScreenedSampler` is the sampler for
other Optuna studies, and every error raised on purpose is a `NasError`. Names load at first use, so that `import nas`
does not import torch.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import compress, export, measure, pick, predict, prune, quantize, report, search, table, train
    from nas.config import SearchConfig, make_config
    from nas.errors import NasError
    from nas.results.run import Run, load_run
    from nas.searcher.samplers.screened import ScreenedSampler

__all__ = [
    "NasError",
    "Run",
    "ScreenedSampler",
    "SearchConfig",
    "compress",
    "export",
    "load_run",
    "make_config",
    "measure",
    "pick",
    "predict",
    "prune",
    "quantize",
    "report",
    "search",
    "table",
    "train",
]

try:
    __version__ = version("fer-nas")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """Load a public name at first use (PEP 562)."""
    module: Any
    if name in {
        "search", "compress", "quantize", "prune", "pick", "predict", "export", "measure", "table", "train", "report",
    }:  # fmt: skip
        from nas import api as module
    elif name in {"Run", "load_run"}:
        from nas.results import run as module
    elif name in {"SearchConfig", "make_config"}:
        from nas import config as module
    elif name == "NasError":
        from nas import errors as module
    elif name == "ScreenedSampler":
        from nas.searcher.samplers import screened as module
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
