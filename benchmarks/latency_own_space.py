"""Latency of nets never measured, learned from a few that were: random nets of our own spaces in ONNX Runtime.

    python -m benchmarks.latency_own_space [--nets 300] [--target cpu] [--cache nets.json] [--json OUT.json]

Draws nets of every search space as a search would, writes each untrained, float and with 8-bit units, and times both on
this machine. What was measured is kept in the cache with its kernel table, so a second run only fits. The bar at 50
samples: 80 % of unseen nets within 10 % (float), 65 % (8 bit). The learned roofline is held against a line over
multiply-accumulates, and a ridge regression and a random forest on the same columns of costs. Nets whose measurement
says that the machine was busy are left out, as long as `--least` calm ones are left; `--all` keeps them.

Measure on an idle machine; how it does beside its best is remembered beside the cache, and `--again` measures once more
what was measured while it was busy. On a busy one `--clock processor` leaves out the time in which others ran, and
`--statistic p5` takes the figure that repeats; caches and memory are shared all the same, so errors are larger there.
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

if not __package__:  # run as a file: siblings are found as with `python -m benchmarks.X`
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
from nas.targets.random_models import export_untrained, random_candidate, with_uniform_bits

INPUT_SHAPE = (1, 48, 48)
RUNS = 200
PATIENCE_S = 3.0
SAMPLES = (10, 20, 50, 100, 200)
LEAST_UNSEEN = 10
BARS = {"float": 0.8, "int8": 0.65}
CLOCKS: dict[str, NanosecondClock] = {"wall": time.perf_counter_ns, "processor": time.thread_time_ns}
Net = dict[str, Any]


def collect(
    cache: Path, count: int, profile: HardwareProfile, *, seed: int, clock: str, again: bool = False
) -> list[Net]:
    """At least `count` measured pairs of nets, from the cache as far as it goes. The cache appears whole.

    With `again`, what was measured on a busy machine is measured once more.
    """
    found: list[Net] = json.loads(cache.read_text()) if cache.exists() else []
    found = [net for net in found if not (again and _is_busy(net))]
    memory = cache.with_name(f".{cache.stem}-{clock}-reference.json")
    known = {(n["key"], n["kind"]) for n in found}
    begin = time.perf_counter()
    pairs = _pairs(profile, seed)
    for done in range(count):
        word, twins = next(pairs)
        missing = {kind: net for kind, net in twins.items() if (net.key, kind) not in known}
        if not missing:
            continue
        for kind, candidate in missing.items():
            try:
                found.append(_measured(word, kind, candidate, profile, CLOCKS[clock], memory))
            except CandidateError as error:
                print(f"left out {candidate.key}: {error}", file=sys.stderr)
        beside = cache.with_name(f".{cache.name}.part")
        beside.write_text(json.dumps(found))
        beside.replace(cache)
        print(f"{done + 1} of {count} nets, {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return found


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
    word: str, kind: str, candidate: Candidate, profile: HardwareProfile, clock: NanosecondClock, memory: Path
) -> Net:
    runtime = load("runtime", profile.runtime)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        counted = export_untrained(
            candidate, path, space=load("space", word), compression=_compression(profile), input_shape=INPUT_SHAPE
        )  # fmt: skip
        counted = executed_costs(path, counted, profile, input_shape=INPUT_SHAPE)
        found = measure(
            path, runtime, device=profile.title, input_shape=INPUT_SHAPE, clock_ns=clock, reference_cache=memory,
            plan=TimingPlan(runs=RUNS, idle_wait_s=PATIENCE_S),
        )  # fmt: skip
    return {
        "space": word,
        "kind": kind,
        "key": candidate.key,
        "measurement": found.to_dict(),
        "costs": asdict(counted),
    }


def study(
    nets: list[Net], profile: HardwareProfile, *, samples: list[int], seeds: int, statistic: str, with_forest: bool
) -> dict[str, Any]:
    """Mean figures of every method on unseen nets after each number of samples."""
    tables = [Costs.from_dict(net["costs"]) for net in nets]
    values = np.array([net["measurement"][statistic] for net in nets])
    columns = columns_for(profile).design_matrix([table.kernels for table in tables])
    described = np.log1p(columns / np.maximum(columns.mean(axis=0), 1e-12))
    found: dict[str, Any] = {}
    for count in (n for n in samples if n + LEAST_UNSEEN <= len(nets)):
        entries: dict[str, list[dict[str, float]]] = {}
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(nets))
            known, unseen = order[:count], order[count:]
            model = fit_learned_roofline([tables[i] for i in known], values[known], profile, seed=seed)
            rest = [tables[i] for i in unseen]
            guesses = {
                "learned roofline": model.predict_ms(rest),
                "MACs alone": _line(tables, values, known, unseen),
                "ridge on costs": ridge(described[known], values[known], described[unseen]),
            }
            if with_forest:
                guesses["random forest on costs"] = forest(described[known], values[known], described[unseen])
            for name, guess in guesses.items():
                entries.setdefault(name, []).append(figures(guess, values[unseen]))
            inside = np.abs(values[unseen] / guesses["learned roofline"] - 1) <= model.relative_half_widths(rest)
            entries["learned roofline"][-1]["inside_interval"] = float(inside.mean())
        found[str(count)] = {
            name: {key: float(np.mean([e[key] for e in every])) for key in every[0]} for name, every in entries.items()
        }
    return found


def rate(nets: list[Net], profile: HardwareProfile) -> float:
    """Predictions a second of processor time, from the kernel tables on; NaN where there are too few nets to learn."""
    if len(nets) < MIN_SAMPLES:
        return float("nan")
    tables = [Costs.from_dict(net["costs"]) for net in nets]
    model = fit_learned_roofline(tables[:20], [net["measurement"]["latency_ms"] for net in nets[:20]], profile)
    begin = time.process_time()
    model.predict_ms(tables)
    return len(tables) / (time.process_time() - begin)


def calm(nets: list[Net], least: int) -> list[Net]:
    """The nets that were measured on a calm machine, or all where there are fewer than `least` of those."""
    quiet = [net for net in nets if not _is_busy(net)]
    return quiet if len(quiet) >= least else nets


def _is_busy(net: Net) -> bool:
    return any("busy" in note for note in net["measurement"]["notes"])


def _line(tables: list[Costs], values: Floats, known: Rows, unseen: Rows) -> Floats:
    macs = np.array([[1.0, table.macs] for table in tables])
    fitted = nnls(macs[known] / values[known, None], np.ones(len(known)))
    found: Floats = macs[unseen] @ fitted
    return found


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
        print(f"  bar at 50 samples: {bar:.0%} within 10 %, {'kept' if share >= bar else 'missed'}", flush=True)


def main() -> None:
    """Measure what the cache lacks, fit, print a table, write the JSON file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=300)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--cache", type=Path, default=Path("latency_own_space.json"))
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--statistic", choices=("median", "p5"), default="median")
    parser.add_argument("--samples", type=int, nargs="+", default=list(SAMPLES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least", type=int, default=100, help="calm nets needed to leave the others out")
    parser.add_argument("--all", action="store_true", help="keep nets measured on a busy machine")
    parser.add_argument("--again", action="store_true", help="measure those once more")
    parser.add_argument("--no-forest", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    profile = load_target(args.target)
    nets = collect(args.cache, args.nets, profile, seed=args.seed, clock=args.clock, again=args.again)
    statistic = {"median": "latency_ms", "p5": "p5_ms"}[args.statistic]
    result: dict[str, Any] = {"clock": args.clock, "statistic": args.statistic}
    for kind, bar in BARS.items():
        every = [net for net in nets if net["kind"] == kind]
        own = every if args.all else calm(every, args.least)
        found = study(
            own, profile, samples=args.samples, seeds=args.seeds, statistic=statistic, with_forest=not args.no_forest
        )
        result[kind] = {"nets": len(own), "left_out": len(every) - len(own), "figures": found}
        result[kind]["predictions_per_second"] = rate(own, profile)
        _print(kind, result[kind], bar)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
