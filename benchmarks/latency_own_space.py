"""Latency of nets never measured, learned from a few that were: random nets of our own spaces in ONNX Runtime.

    python benchmarks/latency_own_space.py [--nets 300] [--target cpu] [--cache nets.json] [--json OUT.json]

Draws nets of every search space as a search would, writes each untrained, float and with 8-bit units, and times both on
this machine. What was measured is kept in the cache with its kernel table; a second run only fits. The bar at 50
samples: 80 % of unseen nets within 10 % (float), 65 % (8 bit). Measure on an idle machine.
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

import torch

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression import Compression
from nas.errors import CandidateError
from nas.measure import Clock, measure
from nas.registry import load, names
from nas.targets import target
from nas.untrained import draw, with_bits, write_untrained

INPUT_SHAPE = (1, 48, 48)
RUNS = 200
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter_ns, "processor": time.thread_time_ns}
Net = dict[str, Any]


def collect(cache: Path, count: int, profile: HardwareProfile, *, seed: int, clock: str) -> list[Net]:
    """At least `count` measured pairs of nets, from the cache as far as it goes. The cache appears whole."""
    found: list[Net] = json.loads(cache.read_text()) if cache.exists() else []
    known = {(n["key"], n["kind"]) for n in found}
    begin = time.perf_counter()
    pairs = _pairs(profile, seed)
    for done in range(count):
        word, twins = next(pairs)
        for kind, candidate in twins.items():
            if (candidate.key, kind) in known:
                continue
            try:
                found.append(_measured(word, kind, candidate, profile, CLOCKS[clock]))
            except CandidateError as error:
                print(f"left out {candidate.key}: {error}", file=sys.stderr)
        beside = cache.with_name(f".{cache.name}.part")
        beside.write_text(json.dumps(found))
        beside.replace(cache)
        print(f"\r{done + 1} of {count} nets, {time.perf_counter() - begin:.0f} s", end="", file=sys.stderr)
    print(file=sys.stderr)
    return found


def _compression(profile: HardwareProfile) -> Compression:
    words = ("prune_structured", "quantize")
    return Compression(members=[load("compressor", word) for word in words], profile=profile)


def _pairs(profile: HardwareProfile, seed: int) -> Iterator[tuple[str, dict[str, Candidate]]]:
    generator = random.Random(seed)
    compression = _compression(profile)
    while True:
        for word in names("space"):
            candidate = draw(load("space", word), compression, generator)
            if set(candidate.bits.values()) == {32}:
                candidate = with_bits(candidate, 8)
            yield word, {"float": with_bits(candidate, 32), "int8": candidate}


def _measured(word: str, kind: str, candidate: Candidate, profile: HardwareProfile, clock: Clock) -> Net:
    runtime = load("runtime", profile.runtime)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        counted = write_untrained(
            candidate, path, space=load("space", word), compression=_compression(profile), input_shape=INPUT_SHAPE
        )  # fmt: skip
        found = measure(path, runtime, device=profile.title, input_shape=INPUT_SHAPE, runs=RUNS, clock=clock)
    return {
        "space": word,
        "kind": kind,
        "key": candidate.key,
        "measurement": found.to_dict(),
        "costs": asdict(counted),
    }


def main() -> None:
    """Measure what the cache lacks, fit, print a table, write the JSON file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=300)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--cache", type=Path, default=Path("latency_own_space.json"))
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: for a busy machine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    profile = target(args.target)
    collect(args.cache, args.nets, profile, seed=args.seed, clock=args.clock)


if __name__ == "__main__":
    main()
