"""Functions that a notebook and the command line call: search, compress, quantize, prune, pick, predict and others."""

from nas.api.explanation import explain, read_memories
from nas.api.measurement import dry_run_commands, measure, measure_all
from nas.api.post_training import layer_sensitivity, prune, quantize, quantize_configured
from nas.api.prediction import predict
from nas.api.runs import export, pick, report, table
from nas.api.searching import compress, search, train
from nas.api.targets import calibrate, calibrations, check_target

__all__ = [
    "calibrate",
    "calibrations",
    "check_target",
    "compress",
    "dry_run_commands",
    "explain",
    "export",
    "layer_sensitivity",
    "measure",
    "measure_all",
    "pick",
    "predict",
    "prune",
    "quantize",
    "quantize_configured",
    "read_memories",
    "report",
    "search",
    "table",
    "train",
]
