"""Table of the front: pareto.csv, and pareto.json with everything known of each member."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas.config import OBJECTIVES
from nas.latency.latency import Latency
from nas.results.compression_effect import compression_ratio, find_baseline, size_ratio
from nas.results.formatting import format_bits_compact, format_settings
from nas.results.front import compute_fronts
from nas.results.record import Record
from nas.results.run_folder import RunFolder

COLUMNS = (
    "trial", "key", "accuracy", "accuracy_low", "accuracy_high", "accuracy_split", "latency_ms", "latency_low_ms",
    "latency_high_ms", "latency_kind", "latency_device", "host_latency_ms", "size_bytes", "params", "nonzero_params",
    "macs", "sparsity", "bits", "epochs", "model", "sha256", "phase", "space", "balanced_accuracy", "macro_f1",
    "latency_runtime", "host_device", "host_median_ms", "parity_max_difference", "test_accuracy", "test_low",
    "test_high", "compression_ratio", "size_ratio", "packed_bytes", "speedup_of_8_bits", "speedup_low", "speedup_high",
    "settings", "notes", "teacher", "activation_bytes", "memory_bytes", "resident_bytes",
)  # fmt: skip
"""Columns of pareto.csv, in order. `host_latency_ms` is the 5th percentile on the machine that ran the search, the
figure that repeats on a shared machine; `host_median_ms` is the median. `sparsity` is the share of channels removed,
0..1. `packed_bytes` is the size of the file under zlib, `speedup_of_8_bits` the latency of the FP32 baseline divided by
that of the file. `memory_bytes` are the weights and the `activation_bytes` alive at once, by the graph;
`resident_bytes` is the process that timed the file on this machine. `compression_ratio` and `size_ratio` are against
the uncompressed model of the run, if it has one."""


def table_rows(records: Iterable[Record], *, baseline: Record | None = None) -> list[dict[str, Any]]:
    """One mapping from `COLUMNS` to values for each record; None where a figure is unknown.

    Args:
        records: the rows.
        baseline: the uncompressed model that ratios are taken against; None leaves the ratios unknown.
    """
    return [_table_row(r, baseline) for r in records]


def _as_text(value: object) -> object:
    """The value, but no text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def write_front(folder: RunFolder, objectives: Sequence[str]) -> tuple[Path, Path]:
    """Write pareto.csv and pareto.json of a run from its records.

    - pareto.csv has the columns `COLUMNS` and one row for each member of the front. The uncompressed model, if the run
      has one, comes first with the `phase` "base".
    - pareto.json holds the same rows with genotype, compression, score and both latencies in full, the uncompressed
      model under `base`, the search front, and the dropped members under `fallen`.

    Returns:
        The paths of pareto.csv and pareto.json.
    """
    records = folder.records()
    fronts, base = compute_fronts(records, objectives), find_baseline(records)
    members = fronts.final
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=COLUMNS)
    writer.writeheader()
    for row in table_rows([base, *members] if base else members, baseline=base):
        writer.writerow({name: _as_text(value) for name, value in row.items()})
    details = {
        "objectives": {o: "maximize" if OBJECTIVES[o] else "minimize" for o in objectives},
        "verified": bool(members) and members[0].phase == "verified",
        **({"base": _table_row(base, base) | _details(base)} if base else {}),
        "front": [_table_row(r, base) | _details(r) for r in members],
        "search_front": table_rows(fronts.search, baseline=base),
        "fallen": [
            {
                "trial": f.search.trial,
                "key": f.search.key,
                "by_trial": f.dominated_by.trial if f.dominated_by else None,
                "reason": f.reason,
            }
            for f in fronts.dropped
        ],
    }
    table = folder.write("pareto.csv", text.getvalue())
    return table, folder.write("pareto.json", json.dumps(details, indent=2) + "\n")


def host_latency(record: Record) -> Latency | None:
    """Latency measured on the search host: `host`, or the target latency where that was measured."""
    if record.host:
        return record.host
    return record.latency if record.latency and record.latency.kind == "measured" else None


def _table_row(r: Record, baseline: Record | None) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {name: getattr(r, name) for name in COLUMNS if hasattr(r, name)}
    row |= {"space": r.candidate.space, "sparsity": r.candidate.sparsity, "bits": format_bits_compact(r.candidate.bits)}
    if r.score:
        row |= {"accuracy": r.score.accuracy, "accuracy_low": r.score.low, "accuracy_high": r.score.high}
        row |= {"balanced_accuracy": r.score.balanced_accuracy, "macro_f1": r.score.macro_f1}
    if r.test:
        row |= {"test_accuracy": r.test.accuracy, "test_low": r.test.low, "test_high": r.test.high}
    if r.latency:
        row |= {"latency_ms": r.latency.latency_ms, "latency_low_ms": r.latency.low_ms}
        row |= {"latency_high_ms": r.latency.high_ms, "latency_kind": r.latency.kind}
        row |= {"latency_device": r.latency.device, "latency_runtime": r.latency.runtime}
    if host := host_latency(r):
        row |= {"host_latency_ms": host.robust_ms, "host_median_ms": host.latency_ms}
        row |= {"host_device": host.device, "resident_bytes": host.resident_bytes}
    if r.gain:
        row |= {"speedup_of_8_bits": r.gain.speedup, "speedup_low": r.gain.low, "speedup_high": r.gain.high}
    row |= {"settings": format_settings(r.candidate), "notes": "; ".join(r.notes)}
    row["parity_max_difference"] = r.parity.get("max_difference")
    if baseline:
        row |= {"compression_ratio": compression_ratio(baseline, r), "size_ratio": size_ratio(baseline, r)}
    return row


def _details(r: Record) -> dict[str, Any]:
    return {
        "candidate": asdict(r.candidate),
        "score": r.score.to_dict() if r.score else None,
        "before": r.before.to_dict() if r.before else None,
        "gain": r.gain.to_dict() if r.gain else None,
        "test": r.test.to_dict() if r.test else None,
        "latency": r.latency.to_dict() if r.latency else None,
        "host": r.host.to_dict() if r.host else None,
        "parity": r.parity,
        "violations": r.violations,
        "seconds": r.seconds,
        "finished": r.finished,
    }
