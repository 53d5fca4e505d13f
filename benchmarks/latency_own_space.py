"""Latency of unmeasured nets predicted from a few measured ones: random nets of our own spaces in ONNX Runtime.

    python -m benchmarks.latency_own_space [--nets 300] [--target cpu] [--cache nets.json] [--json OUT.json]

Nets are drawn from every search space as in a search, exported untrained in FP32 and with INT8 units, and both files
are timed on this machine. Measurements are cached with their kernel tables, so a second run only fits. The bar at 50
samples is that 80 % of held-out nets in FP32 and 65 % in INT8 are predicted within 10 %. The learned roofline is
compared with a line over multiply-accumulates, and with ridge regression and a random forest on the same cost columns.
Nets whose measurement notes a busy machine are left out if at least `--least` others remain; `--all` keeps them.

Measure on an idle machine. Its best time of the reference network is remembered beside the cache, and `--again`
measures once more what was measured on a busy machine. On a busy one, `--clock processor` leaves out the time of other
processes, and `--statistic p5` uses the most repeatable statistic; caches and memory are still shared, so errors are
larger.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: import siblings as `python -m benchmarks.X` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from benchmarks.latency_prediction import Floats, Rows, figures, forest, ridge
from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.pipeline import CompressionPipeline
from nas.errors import CandidateError
from nas.latency.costs import Costs
from nas.latency.measured.timing import measure
from nas.latency.measured.timing_loop import NanosecondClock, TimingPlan
from nas.latency.predicted.cost_columns import columns_for
from nas.latency.predicted.executed_graph import executed_costs
from nas.latency.predicted.learned_roofline import MIN_SAMPLES, fit_learned_roofline
from nas.latency.predicted.nnls import nnls
from nas.registry import load, names
from nas.targets.catalog import load_target
from nas.targets.random_candidates import export_untrained, random_candidate, with_uniform_bits

INPUT_SHAPE = (1, 48, 48)
RUNS = 200
IDLE_WAIT_S = 3.0
SAMPLES = (10, 20, 50, 100, 200)
MIN_HELD_OUT = 10
BARS = {"float": 0.8, "int8": 0.65}
CLOCKS: dict[str, NanosecondClock] = {"wall": time.perf_counter_ns, "processor": time.thread_time_ns}
Net = dict[str, Any]


def collect(
    cache: Path, count: int, profile: HardwareProfile, *, seed: int, clock: str, again: bool = False
) -> list[Net]:
    """At least `count` measured pairs of nets, from the cache where it has them.

    The cache file is always complete on disk.

    Args:
        cache: JSON file of measured nets.
        count: number of pairs.
        profile: of the target.
        seed: of the random nets.
        clock: name in `CLOCKS`.
        again: measure once more what was measured on a busy machine.
    """
    nets: list[Net] = json.loads(cache.read_text()) if cache.exists() else []
    nets = [net for net in nets if not (again and _is_busy(net))]
    reference_cache = cache.with_name(f".{cache.stem}-{clock}-reference.json")
    measured = {(n["key"], n["kind"]) for n in nets}
    begin = time.perf_counter()
    pairs = _pairs(profile, seed)
    for done in range(count):
        space, forms = next(pairs)
        missing = {kind: net for kind, net in forms.items() if (net.key, kind) not in measured}
        if not missing:
            continue
        for kind, candidate in missing.items():
            try:
                nets.append(_measured(space, kind, candidate, profile, CLOCKS[clock], reference_cache))
            except CandidateError as error:
                print(f"left out {candidate.key}: {error}", file=sys.stderr)
        temporary = cache.with_name(f".{cache.name}.part")
        temporary.write_text(json.dumps(nets))
        temporary.replace(cache)
        print(f"{done + 1} of {count} nets, {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return nets


def _compression(profile: HardwareProfile) -> CompressionPipeline:
    words = ("prune_structured", "quantize")
    return CompressionPipeline(compressors=[load("compressor", word) for word in words], profile=profile)


def _pairs(profile: HardwareProfile, seed: int) -> Iterator[tuple[str, dict[str, Candidate]]]:
    generator = random.Random(seed)
    compression = _compression(profile)
    while True:
        for word in names("space"):
            candidate = random_candidate(load("space", word), compression, generator)
            if set(candidate.bits.values()) == {32}:
                candidate = with_uniform_bits(candidate, 8)
            yield word, {"float": with_uniform_bits(candidate, 32), "int8": candidate}


def _measured(
    space_name: str,
    kind: str,
    candidate: Candidate,
    profile: HardwareProfile,
    clock: NanosecondClock,
    reference_cache: Path,
) -> Net:
    runtime = load("runtime", profile.runtime)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        costs = export_untrained(
            candidate, path, space=load("space", space_name), compression=_compression(profile), input_shape=INPUT_SHAPE
        )  # fmt: skip
        costs = executed_costs(path, costs, profile, input_shape=INPUT_SHAPE)
        latency = measure(
            path, runtime, device=profile.title, input_shape=INPUT_SHAPE, clock_ns=clock,
            reference_cache=reference_cache,
            plan=TimingPlan(runs=RUNS, idle_wait_s=IDLE_WAIT_S),
        )  # fmt: skip
    return {
        "space": space_name,
        "kind": kind,
        "key": candidate.key,
        "measurement": latency.to_dict(),
        "costs": asdict(costs),
    }


def study(
    nets: list[Net], profile: HardwareProfile, *, samples: list[int], seeds: int, statistic: str, with_forest: bool
) -> dict[str, Any]:
    """Mean figures of every method on held-out nets, by number of samples."""
    tables = [Costs.from_dict(net["costs"]) for net in nets]
    values = np.array([net["measurement"][statistic] for net in nets])
    columns = columns_for(profile).design_matrix([table.kernels for table in tables])
    # counts span orders of magnitude: relative to the mean, logarithms suit both ridge and forest
    log_columns = np.log1p(columns / np.maximum(columns.mean(axis=0), 1e-12))
    results: dict[str, Any] = {}
    for count in (n for n in samples if n + MIN_HELD_OUT <= len(nets)):
        entries: dict[str, list[dict[str, float]]] = {}
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(nets))
            train, held_out = order[:count], order[count:]
            model = fit_learned_roofline([tables[i] for i in train], values[train], profile, seed=seed)
            held_out_tables = [tables[i] for i in held_out]
            predictions = {
                "learned roofline": model.predict_ms(held_out_tables),
                "MACs alone": _line(tables, values, train, held_out),
                "ridge on costs": ridge(log_columns[train], values[train], log_columns[held_out]),
            }
            if with_forest:
                predictions["random forest on costs"] = forest(log_columns[train], values[train], log_columns[held_out])
            for name, prediction in predictions.items():
                entries.setdefault(name, []).append(figures(prediction, values[held_out]))
            inside = np.abs(values[held_out] / predictions["learned roofline"] - 1) <= model.relative_half_widths(
                held_out_tables
            )
            entries["learned roofline"][-1]["inside_interval"] = float(inside.mean())
        results[str(count)] = {
            name: {key: float(np.mean([e[key] for e in method_entries])) for key in method_entries[0]}
            for name, method_entries in entries.items()
        }
    return results


def rate(nets: list[Net], profile: HardwareProfile) -> float:
    """Predictions per second of processor time, from kernel tables; NaN with too few nets for a fit."""
    if len(nets) < MIN_SAMPLES:
        return float("nan")
    tables = [Costs.from_dict(net["costs"]) for net in nets]
    model = fit_learned_roofline(tables[:20], [net["measurement"]["latency_ms"] for net in nets[:20]], profile)
    begin = time.process_time()
    model.predict_ms(tables)
    return len(tables) / (time.process_time() - begin)


def calm(nets: list[Net], least: int) -> list[Net]:
    """The nets measured on a calm machine, or all if fewer than `least` are."""
    calm_nets = [net for net in nets if not _is_busy(net)]
    return calm_nets if len(calm_nets) >= least else nets


def _is_busy(net: Net) -> bool:
    return any("busy" in note for note in net["measurement"]["notes"])


def _line(tables: list[Costs], values: Floats, train: Rows, held_out: Rows) -> Floats:
    macs = np.array([[1.0, table.macs] for table in tables])
    fitted = nnls(macs[train] / values[train, None], np.ones(len(train)))
    predicted: Floats = macs[held_out] @ fitted
    return predicted


def _print(kind: str, result: dict[str, Any], bar: float) -> None:
    left = f", {result['left_out']} measured on a busy machine left out" if result["left_out"] else ""
    print(f"{kind}: {result['nets']} nets{left}, {result['predictions_per_second']:.0f} predictions a second")
    for count, methods in result["figures"].items():
        for name, f in methods.items():
            interval = f", inside the interval {f['inside_interval']:.0%}" if "inside_interval" in f else ""
            print(
                f"  {count:>4} samples  {name:22} rank correlation {f['spearman']:.3f}, mean error "
                f"{f['mean_error']:5.1%}, within 10 % {f['within_10']:4.0%}{interval}"
            )
    if "50" in result["figures"]:
        share = result["figures"]["50"]["learned roofline"]["within_10"]
        print(f"  bar at 50 samples: {bar:.0%} within 10 %, {'met' if share >= bar else 'missed'}", flush=True)


def main() -> None:
    """Measure what the cache lacks, fit, print the table, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=300)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--cache", type=Path, default=Path("latency_own_space.json"))
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--statistic", choices=("median", "p5"), default="median")
    parser.add_argument("--samples", type=int, nargs="+", default=list(SAMPLES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least", type=int, default=100, help="number of calm nets from which the others are left out")
    parser.add_argument("--all", action="store_true", help="keep nets measured on a busy machine")
    parser.add_argument("--again", action="store_true", help="measure nets of a busy machine once more")
    parser.add_argument("--no-forest", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    profile = load_target(args.target)
    nets = collect(args.cache, args.nets, profile, seed=args.seed, clock=args.clock, again=args.again)
    statistic = {"median": "latency_ms", "p5": "p5_ms"}[args.statistic]
    result: dict[str, Any] = {"clock": args.clock, "statistic": args.statistic}
    for kind, bar in BARS.items():
        all_nets = [net for net in nets if net["kind"] == kind]
        used = all_nets if args.all else calm(all_nets, args.least)
        figures_by_samples = study(
            used, profile, samples=args.samples, seeds=args.seeds, statistic=statistic, with_forest=not args.no_forest
        )
        result[kind] = {"nets": len(used), "left_out": len(all_nets) - len(used), "figures": figures_by_samples}
        result[kind]["predictions_per_second"] = rate(used, profile)
        _print(kind, result[kind], bar)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
