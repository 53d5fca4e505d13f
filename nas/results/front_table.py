"""The front as the table that people get: pareto.csv, and pareto.json with all that is known of each member."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas.config import OBJECTIVES
from nas.latency.estimate import Measurement
from nas.results.compression_effect import compression_ratio, size_ratio, uncompressed
from nas.results.formatting import bits_text, settings_words
from nas.results.front import fallen, front, search_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder

COLUMNS = (
    "trial", "key", "accuracy", "accuracy_low", "accuracy_high", "accuracy_split", "latency_ms", "latency_low_ms",
    "latency_high_ms", "latency_kind", "latency_device", "host_latency_ms", "size_bytes", "params", "nonzero_params",
    "macs", "sparsity", "bits", "epochs", "model", "sha256", "phase", "space", "balanced_accuracy", "macro_f1",
    "latency_runtime", "host_device", "host_median_ms", "parity_max_difference", "test_accuracy", "test_low",
    "test_high", "compression_ratio", "size_ratio", "packed_bytes", "speedup_of_8_bits", "speedup_low", "speedup_high",
    "settings", "notes", "teacher",
)  # fmt: skip
"""Columns of pareto.csv, in order. `host_latency_ms` is the 5th percentile on the machine that ran the search, the
figure that repeats on a shared machine; `host_median_ms` is the median. `sparsity` is the share of channels removed,
0..1. `packed_bytes` is the file's size under zlib, `speedup_of_8_bits` the float twin's latency by the file's own.
`compression_ratio` and `size_ratio` are against the uncompressed net of the run, where there is one."""


def rows(records: Iterable[Record], *, base: Record | None = None) -> list[dict[str, Any]]:
    """One mapping from `COLUMNS` to values for each record; None where a figure is unknown.

    `base` is the uncompressed net that ratios are taken against.
    """
    return [_row(r, base) for r in records]


def write_front(folder: RunFolder, objectives: Sequence[str]) -> tuple[Path, Path]:
    """Write pareto.csv and pareto.json of a run anew from its records, and return their paths.

    pareto.csv has one row for each member of `front` and the columns `COLUMNS`; the uncompressed net, where there is
    one, comes first, its `phase` is "base". pareto.json holds the same rows, the uncompressed net under `base`, and for
    each genotype, compression, score and both measurements in full; further the search front and who fell off.
    """
    records = folder.records()
    members, base = front(records, objectives), uncompressed(records)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=COLUMNS)
    writer.writeheader()
    writer.writerows(rows([base, *members] if base else members, base=base))
    details = {
        "objectives": {o: "maximize" if OBJECTIVES[o] else "minimize" for o in objectives},
        "verified": bool(members) and members[0].phase == "verified",
        **({"base": _row(base, base) | _details(base)} if base else {}),
        "front": [_row(r, base) | _details(r) for r in members],
        "search_front": rows(search_front(records, objectives), base=base),
        "fallen": [
            {"trial": f.search.trial, "key": f.search.key, "by_trial": f.by.trial if f.by else None, "reason": f.reason}
            for f in fallen(records, objectives)
        ],
    }
    table = folder.write("pareto.csv", text.getvalue())
    return table, folder.write("pareto.json", json.dumps(details, indent=2) + "\n")


def host_measurement(record: Record) -> Measurement | None:
    """What was measured on the machine that ran the search: `host`, or the latency itself where that is measured."""
    if record.host:
        return record.host
    return record.latency if record.latency and record.latency.kind == "measured" else None


def _row(r: Record, base: Record | None) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {name: getattr(r, name) for name in COLUMNS if hasattr(r, name)}
    row |= {"space": r.candidate.space, "sparsity": r.candidate.sparsity, "bits": bits_text(r.candidate.bits)}
    if r.score:
        row |= {"accuracy": r.score.accuracy, "accuracy_low": r.score.low, "accuracy_high": r.score.high}
        row |= {"balanced_accuracy": r.score.balanced_accuracy, "macro_f1": r.score.macro_f1}
    if r.test:
        row |= {"test_accuracy": r.test.accuracy, "test_low": r.test.low, "test_high": r.test.high}
    if r.latency:
        row |= {"latency_ms": r.latency.latency_ms, "latency_low_ms": r.latency.low_ms}
        row |= {"latency_high_ms": r.latency.high_ms, "latency_kind": r.latency.kind}
        row |= {"latency_device": r.latency.device, "latency_runtime": r.latency.runtime}
    if host := host_measurement(r):
        row |= {"host_latency_ms": host.p5_ms or host.latency_ms, "host_median_ms": host.latency_ms}
        row["host_device"] = host.device
    if r.gain:
        row |= {"speedup_of_8_bits": r.gain.speedup, "speedup_low": r.gain.low, "speedup_high": r.gain.high}
    row |= {"settings": settings_words(r.candidate), "notes": "; ".join(r.notes)}
    row["parity_max_difference"] = r.parity.get("max_difference")
    if base:
        row |= {"compression_ratio": compression_ratio(base, r), "size_ratio": size_ratio(base, r)}
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
