"""The Pareto front of a run: of the search, verified after full training, and as the table that people get.

A search front is optimistic: its members were picked because their short training and their score came out well. So
they are trained in full and measured again, and a member that another one then dominates has fallen off. Both fronts
are kept beside each other.

The front is non-dominated in *all* objectives of the run. With size or energy as a third objective it may therefore
hold a member that another beats in accuracy and latency, because it is smaller.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.before_after import compression_ratio, size_ratio, uncompressed
from nas.candidate import Candidate
from nas.config import OBJECTIVES
from nas.gain import NO_GAIN
from nas.measurement import Measurement
from nas.pareto import Points, hypervolume, non_dominated
from nas.records import Record, RunFolder

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


@dataclass(frozen=True, kw_only=True)
class Fallen:
    """A member of the search front that is not on the verified front.

    Attributes:
        search: its record of the search.
        verified: its record after full training.
        by: the verified member that dominates it; None when it fell for another reason.
        reason: one sentence.
    """

    search: Record
    verified: Record
    by: Record | None
    reason: str


def search_front(records: Iterable[Record], objectives: Sequence[str]) -> list[Record]:
    """The front as the search left it: complete, within the constraints, fastest first. One record for each key."""
    return _front(latest(records, "search"), objectives)


def verified_front(records: Iterable[Record], objectives: Sequence[str]) -> list[Record]:
    """The front among what was trained in full and measured again, fastest first; empty when there is nothing yet."""
    return _front(latest(records, "verified"), objectives)


def front(records: Iterable[Record], objectives: Sequence[str]) -> list[Record]:
    """The verified front, or the search front where full training left nothing that is complete and feasible."""
    records = list(records)
    return verified_front(records, objectives) or search_front(records, objectives)


def fallen(records: Iterable[Record], objectives: Sequence[str]) -> list[Fallen]:
    """Members of the search front that were verified and did not stay on the front, fastest first."""
    records = list(records)
    verified = {r.key: r for r in latest(records, "verified")}
    stayed = {r.key: r for r in verified_front(records, objectives)}
    found = []
    for member in search_front(records, objectives):
        again = verified.get(member.key)
        if again and again.key not in stayed:
            found.append(_fall(member, again, list(stayed.values()), objectives))
    return found


def values(records: Sequence[Record], objectives: Sequence[str]) -> Points:
    """Objective values [n, m]; NaN where one is unknown."""
    table = [[r.objective(o) for o in objectives] for r in records]
    return np.array(table, dtype=np.float64).reshape(len(records), len(objectives))


def directions(objectives: Sequence[str]) -> list[bool]:
    """For each objective whether more is better."""
    return [OBJECTIVES[o] for o in objectives]


def feasible(record: Record) -> bool:
    """Whether a record is complete and keeps every constraint."""
    return record.status == "complete" and all(v <= 0 for v in record.violations.values())


def latest(records: Iterable[Record], phase: str) -> list[Record]:
    """The latest record of each key in a phase, in the order the keys first occurred.

    Where a member was trained several times, it is that of the first training, which goes on from the search's: to take
    the best of them would make its accuracy look better than it is.
    """
    found: dict[str, Record] = {}
    for record in records:
        if record.phase == phase and not record.seed:
            found[record.key] = record
    return list(found.values())


def reference(records: Iterable[Record], objectives: Sequence[str]) -> list[float]:
    """A reference point for hypervolume: accuracy 0, and of each cost the largest that a feasible record has.

    It moves while a search goes on. So curves are drawn with the reference of all their records, at the end.
    """
    table = values([r for r in records if feasible(r)], objectives)
    worst = [0.0 if up else float(np.nanmax(column, initial=0.0)) for column, up in _columns(table, objectives)]
    return [w if up else w * (1 + 1e-9) or 1.0 for w, up in zip(worst, directions(objectives), strict=True)]


def hypervolume_curve(
    records: Iterable[Record], objectives: Sequence[str], *, corner: Sequence[float] | None = None
) -> list[float]:
    """Hypervolume of the search front after each finished candidate, as a share of the box below the reference.

    The box reaches from the reference point (`corner`, or `reference` of these records) to accuracy 1 at no cost, so
    values are 0..1 and more is better. They compare only between curves with the same corner.
    """
    found = [r for r in records if r.phase == "search"]
    corner = list(corner) if corner is not None else reference(found, objectives)
    ideal = [1.0 if up else 0.0 for up in directions(objectives)]
    box = float(np.prod(np.abs(np.subtract(ideal, corner))))
    shares: list[float] = []
    members = np.empty((0, len(objectives)))
    for record in found:
        if feasible(record):
            members = np.vstack([members, values([record], objectives)])
            members = members[non_dominated(members, directions(objectives))]
        shares.append(hypervolume(members, corner, directions(objectives)) / box)
    return shares


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


def _front(records: Sequence[Record], objectives: Sequence[str]) -> list[Record]:
    kept = [r for r in records if feasible(r)]
    mask = non_dominated(values(kept, objectives), directions(objectives))
    return sorted((r for r, on in zip(kept, mask, strict=True) if on), key=lambda r: r.objective("latency") or 0.0)


def _columns(table: Points, objectives: Sequence[str]) -> Iterable[tuple[Points, bool]]:
    return zip(table.T, directions(objectives), strict=True)


def _fall(search: Record, verified: Record, stayed: Sequence[Record], objectives: Sequence[str]) -> Fallen:
    if verified.status != "complete" or not feasible(verified):
        broken = ", ".join(name for name, v in verified.violations.items() if v > 0)
        reason = verified.reason or (f"breaks {broken} after full training" if broken else "was not completed")
        return Fallen(search=search, verified=verified, by=None, reason=reason)
    signs = np.where(directions(objectives), 1.0, -1.0)
    mine = values([verified], objectives)[0] * signs
    no_worse = (values(stayed, objectives) * signs >= mine).all(axis=1)
    if not no_worse.any():
        return Fallen(search=search, verified=verified, by=None, reason="an objective is unknown after full training")
    by = stayed[int(no_worse.argmax())]
    return Fallen(search=search, verified=verified, by=by, reason=f"trial {by.trial} is {_margin(by, verified)}")


def _margin(better: Record, worse: Record) -> str:
    """By how much one record beats another, in words."""
    parts = []
    if better.score and worse.score:
        parts.append(f"{100 * (better.score.accuracy - worse.score.accuracy):+.1f} points of accuracy")
    if better.latency and worse.latency:
        parts.append(f"{better.latency.latency_ms - worse.latency.latency_ms:+.3f} ms")
    return ", ".join([*parts, "and no worse in any objective"])


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


def host_measurement(record: Record) -> Measurement | None:
    """What was measured on the machine that ran the search: `host`, or the latency itself where that is measured."""
    if record.host:
        return record.host
    return record.latency if record.latency and record.latency.kind == "measured" else None


def bits_text(bits: dict[str, int]) -> str:
    """Bit-widths in one word or few: "32", or "stem:32 stage1:8 head:32" where they differ."""
    if len(set(bits.values())) == 1:
        return str(next(iter(bits.values())))
    return " ".join(f"{unit}:{width}" for unit, width in bits.items())


def bits_words(bits: dict[str, int]) -> str:
    """Bit-widths for people: the commonest, then the units that differ from it."""
    most = max(bits.values(), key=list(bits.values()).count)
    return ", ".join([f"{most} bits", *(f"{unit} {width}" for unit, width in bits.items() if width != most)])


def widths_words(candidate: Candidate) -> str:
    """Channels of each stage, before and after pruning where they differ: "16, 32 to 16, 64"."""
    pairs = [(wide, candidate.pruned.get(stage, wide)) for stage, wide in candidate.widths.items()]
    return ", ".join(str(wide) if wide == slim else f"{wide} to {slim}" for wide, slim in pairs)


def settings_words(candidate: Candidate) -> str:
    """Further compression genes that have an effect: "rank.stage2 0.5, zeros.stage3 0.9"; empty without any."""
    return ", ".join(f"{name} {value}" for name, value in candidate.settings.items())


def gain_words(record: Record) -> str:
    """What 8 bits gain over the float twin: "8 bits 1.42 times as fast as in float [1.38, 1.46]"; empty without any."""
    found = record.gain
    if found is None:
        return ""
    interval = f" [{found.low:.2f}, {found.high:.2f}]" if found.kind == "measured" else ", predicted"
    return f"8 bits {found.speedup:.2f} times as fast as in float{interval}{'' if found.pays else ': no gain'}"


def given_up(records: Iterable[Record]) -> int:
    """Candidates whose 8-bit units gain nothing, so that their float twins took their places."""
    return sum(r.violations.get(NO_GAIN, 0.0) > 0 for r in records)


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
