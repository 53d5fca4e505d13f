"""Page of the columns: pareto.csv, and what a line of records.jsonl holds."""

from nas.candidate import Candidate
from nas.latency.int8_speedup import Int8Speedup
from nas.latency.latency import Latency
from nas.metrics import Score
from nas.results.front_table import COLUMNS
from nas.results.record import Record

from .attributes import describe_attributes, type_text
from .markdown import code, table

INTRODUCTION = """\
# Columns of a run

Generated from the code that writes the files. An empty cell means that the figure is unknown; nothing is filled in.

## pareto.csv

One row for each member of the front, fastest first; the uncompressed model, if the run has one, comes first with the
phase `base`. `run.front` in Python is the same table, and `run.records` has a row for every candidate, with `status`,
`reason` and `seed` after these columns.
"""
OWN_COLUMNS = {
    "accuracy": "share of images of the selection split that are right, 0..1; ONNX Runtime's on the file",
    "accuracy_low": "lower end of the 95 % Wilson interval of `accuracy`",
    "accuracy_high": "upper end of it",
    "latency_ms": "milliseconds of one inference on the target, measured or predicted",
    "latency_low_ms": "lower end of the 95 % interval of `latency_ms`",
    "latency_high_ms": "upper end of it",
    "latency_kind": "`measured` or `predicted`",
    "latency_device": "what it was measured on or predicted for, in words",
    "latency_runtime": "runtime of `latency_ms`",
    "host_latency_ms": "5th percentile on the machine that ran the search, the figure that repeats on a shared machine",
    "host_median_ms": "median on that machine",
    "host_device": "that machine, in words",
    "sparsity": "share of channels removed, 0..1",
    "bits": "bit-widths, the most frequent one first and then the units that differ",
    "space": "search space, or the model of a compression",
    "balanced_accuracy": "mean recall over the classes of the selection split, 0..1",
    "macro_f1": "mean F1 over the classes, 0..1",
    "parity_max_difference": "largest difference between the probabilities of torch and of the file",
    "test_accuracy": "accuracy on the test split, 0..1, taken once after full training; empty without test data",
    "test_low": "lower end of its 95 % interval",
    "test_high": "upper end of it",
    "compression_ratio": "R: weights of the uncompressed model divided by weights of this one that are not zero",
    "size_ratio": "bytes of the uncompressed file divided by bytes of this one",
    "speedup_of_8_bits": "latency of the FP32 baseline divided by that of the file; empty without INT8 units",
    "speedup_low": "lower end of its 95 % interval; INT8 pays where it is above 1",
    "speedup_high": "upper end of it",
    "resident_bytes": "memory of the process that timed the file on this machine, interpreter and runtime included",
    "settings": "further settings of compressors that have an effect",
    "notes": "remarks on how the file was produced, separated by semicolons",
}
"""Columns that are no field of a record, or that say less there."""
NESTED = {
    "candidate": Candidate, "score": Score, "latency": Latency, "gain": Int8Speedup,
}  # fmt: skip


def column_page() -> str:
    """The page.

    Raises:
        KeyError: a column is described nowhere.
    """
    described = describe_attributes(Record) | OWN_COLUMNS
    rows = [[code(name), described[name]] for name in COLUMNS]
    parts = [INTRODUCTION.rstrip(), table(["column", "meaning"], rows), "## records.jsonl"]
    parts.append(
        "One JSON object a line for each finished candidate, failed and infeasible ones included, oldest first. "
        '`nas.load_run("runs/NAME").folder.records()` reads them as objects.'
    )
    parts.append(_attributes(Record))
    for name, cls in NESTED.items():
        also = {"score": " (also `test` and `before`)", "latency": " (also `host`)"}.get(name, "")
        parts += [f"### {name}{also}", _attributes(cls)]
    return "\n\n".join(parts) + "\n"


def _attributes(cls: type) -> str:
    rows = [[code(name), code(type_text(cls, name)), text] for name, text in describe_attributes(cls).items()]
    return table(["field", "type", "meaning"], rows)
