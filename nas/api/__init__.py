"""Functions that a notebook and the command line call: search, compress, quantize, prune, pick, export and others."""

from nas.api.measurement import calibrate, calibrations, check_target, dry_run_commands, measure, measure_all
from nas.api.post_training import layer_sensitivity, prune, quantize, quantize_configured
from nas.api.runs import export, pick, report, table
from nas.api.searching import compress, search, train

__all__ = [
    "calibrate",
    "calibrations",
    "check_target",
    "compress",
    "dry_run_commands",
    "export",
    "layer_sensitivity",
    "measure",
    "measure_all",
    "pick",
    "prune",
    "quantize",
    "quantize_configured",
    "report",
    "search",
    "table",
    "train",
]
