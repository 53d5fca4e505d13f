"""Comparison of samplers in the tool's own loop: its study, spaces, compression genes, keys, constraints and context.

    python -m benchmarks.search_loop --space darts --sampler screened,tpe,nsga2,random --trials 60 --seeds 3 --json OUT

Only the evaluation is synthetic, so that no net is built or trained. Latency is a function of kernels, arithmetic and
activation. Accuracy sums effects of every active operation, width, bit width and sparsity, with interactions and the
noise of one training; all effects are drawn from the seed. The sampler's own predictors do not use these formulas.
Known good nets are proposed first, as in a search.

Printed is the noise-free hypervolume within the latency limit after 20, 40, 60, ... trials, as a share of that of all
nets that any sampler found for the seed. Duplicates and infeasible trials count as trials.
"""

import argparse
import hashlib
import itertools
import json
import tempfile
from collections import ChainMap
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ask_seconds import DEFAULT, SearchParts
from nas import registry
from nas.candidate import Candidate
from nas.pareto import hypervolume
from nas.searcher.assembly import make_study
from search_spaces._base import DisconnectedError

NOISE = 0.009
"""Standard deviation of an observed accuracy: one training and one validation on FER2013."""
STEP = 20
WORST = 0.2
LIMIT_MS = 2.0


class SyntheticEvaluation:
    """Synthetic values of candidates; all effects are drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, candidate: Candidate, columns: dict[str, float]) -> tuple[float, float]:
        """Accuracy 0..1 without noise, and latency in ms."""
        architecture = candidate.architecture
        kernels = sum(v for n, v in columns.items() if n.rstrip("0123456789") in ("dense", "pointwise", "depthwise"))
        work = sum(v * (0.5 if n.endswith("s8") else 1.0) for n, v in columns.items() if "macs" in n)
        activation_factor = 1.25 if architecture["activation"] == "hard_swish" else 1.0
        latency = activation_factor * (0.08 + 0.014 * kernels + 1.5e-8 * work)
        widths = [np.log2(w / 8) for w in candidate.pruned.values()]
        effects = [self._draw(word, 0.6) + 0.7 for word in _words(architecture)]
        capacity = float(np.sum(np.maximum(effects, 0.05)) ** 0.5 * (0.4 + np.mean(widths)))
        interactions = sum(self._draw(f"{a}|{b}", 0.25) for a, b in itertools.pairwise(sorted(_words(architecture))))
        loss = 0.03 * candidate.sparsity**2 + 0.004 * sum(b == 8 for b in candidate.bits.values())
        loss += sum(abs(self._draw(f"{n}={v}", 0.006)) for n, v in candidate.settings.items())
        accuracy = 0.25 + 0.42 * (1 - np.exp(-max(capacity + 0.3 * interactions, 0.0) / 4)) - loss
        accuracy += 0.01 * np.log2(architecture["input_size"] / 48) + self._draw(str(architecture["attention"]), 0.006)
        return float(np.clip(accuracy, 0, 1)), float(latency)

    def _draw(self, word: str, deviation: float) -> float:
        """A normal number that depends on the word and the seed only."""
        digest = hashlib.sha256(f"{self._seed}/{word}".encode()).digest()
        return float(np.random.default_rng(int.from_bytes(digest[:8], "big")).normal(0, deviation))


def _words(architecture: dict[str, Any]) -> list[str]:
    """The active operations or blocks of a net, each with its place."""
    if "body" in architecture:
        return [f"{s['stage']}.{s['block']}.{i}" for s in architecture["body"] for i in range(s["depth"])]
    words = []
    for cell in architecture["cells"]:
        for i, node in enumerate(architecture[cell["kind"]]):
            words += [f"{cell['stage']}.{i}.{op}" for op, _ in node]
    return words


def replay(args: argparse.Namespace, sampler: str, seed: int, runs: Path) -> list[tuple[float, float]]:
    """Noise-free accuracy and latency of each trial, in order; the worst values for infeasible trials."""
    parts, evaluate = (
        SearchParts(args.space, args.target, args.compressors, sampler, runs, limit_ms=LIMIT_MS, seed=seed),
        SyntheticEvaluation(seed),
    )
    settings = itertools.product(
        *(m.initial_settings(parts.space.stages, parts.profile) for m in parts.compression.compressors)
    )
    seeds = [
        dict(ChainMap(net, *s))
        for s in settings
        for net in parts.space.initial_configurations(channel_multiple=parts.multiple)
    ]
    study = make_study(
        parts.folder, parts.config, parts.genes, registry.load("sampler", sampler),
        context=parts.surrogate.sampler_context(), initial_picks=seeds[: args.good],
    )  # fmt: skip
    noise, true_values = np.random.default_rng([seed, 3]), []
    for _ in range(args.trials):
        ask = study.ask()
        try:
            candidate = parts.compression.decode(parts.space, ask.picked)
        except DisconnectedError as error:
            study.fail(ask, str(error))
            true_values.append((WORST, LIMIT_MS))
            continue
        accuracy, latency = evaluate(candidate, parts.columns(ask.picked))
        observed = float(np.clip(accuracy + noise.normal(0, NOISE), 0, 1))
        record = parts.record(ask.number, candidate, observed, latency)
        parts.folder.append(record)
        study.tell(ask, record)
        true_values.append((accuracy, latency) if latency <= LIMIT_MS else (WORST, LIMIT_MS))
    return true_values


def main() -> None:
    """Search, print the table, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="darts")
    parser.add_argument("--target", default="jetson")
    parser.add_argument("--compressors", default=DEFAULT)
    parser.add_argument("--sampler", default="screened,tpe,nsga2,random")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--good", type=int, default=8, help="largest number of known good nets that are proposed first")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names, runs = args.sampler.split(","), dict[str, list[list[tuple[float, float]]]]()
    for name, seed in itertools.product(names, range(args.seeds)):
        with tempfile.TemporaryDirectory() as folder:
            runs.setdefault(name, []).append(replay(args, name, seed, Path(folder)))
    best = [volume([point for name in names for point in runs[name][seed]]) for seed in range(args.seeds)]
    budgets = range(STEP, args.trials + 1, STEP)
    result = {
        name: {b: [volume(points[:b]) / best[seed] for seed, points in enumerate(runs[name])] for b in budgets}
        for name in names
    }
    print(f"{args.space}: share of the hypervolume that all samplers found together, mean of {args.seeds} seeds")
    print(f"{'sampler':12}" + "".join(f"{'@' + str(b):>8}" for b in budgets))
    for name, shares in result.items():
        print(f"{name:12}" + "".join(f"{np.mean(v):8.3f}" for v in shares.values()))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def volume(points: list[tuple[float, float]]) -> float:
    """Hypervolume against the worst accuracy and the latency limit."""
    return hypervolume(np.array(points), [WORST, LIMIT_MS], [True, False])


if __name__ == "__main__":
    main()
