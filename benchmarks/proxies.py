"""Do zero-cost proxies pay? Their figures for nets of a table that were trained, beside what costs nothing at all.

    python -m benchmarks.proxies --table benchmarks/data/fer2013_plain.csv --data fer2013.csv [--json OUT.json]

For each proxy, and for parameters, multiply-accumulates and latency: the rank correlation with accuracy over all rows;
seconds for a net; how many members of the table's front would be lost if the fifth of the rows that it likes least were
never trained; and what it adds to a guess of accuracy by the genes and costs, as the rank correlation of a ridge
regression with ten folds, mean of ten divisions.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.stats import spearmanr

from benchmarks.fer_table import GENE
from nas.compression.pipeline import CompressionPipeline
from nas.data.loading import load_data
from nas.pareto import non_dominated
from nas.registry import load, names
from nas.targets.catalog import load_target

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
FREE = ("params", "macs", "latency_ms", "size_bytes")
IMAGES = 16
DROPPED = 0.2
FOLDS, DIVISIONS = 10, 10
PENALTY = 3.0


def guessed(features: Floats, accuracy: Floats) -> float:
    """Rank correlation of held-out guesses of a ridge regression [n, d] -> [n], mean over divisions into folds."""
    scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)
    found = []
    for division in range(DIVISIONS):
        fold = np.random.default_rng(division).permutation(len(accuracy)) % FOLDS
        guess = np.zeros(len(accuracy))
        for held in range(FOLDS):
            x, y = scaled[fold != held], accuracy[fold != held]
            weights = np.linalg.solve(x.T @ x + PENALTY * np.eye(x.shape[1]), x.T @ (y - y.mean()))
            guess[fold == held] = scaled[fold == held] @ weights + y.mean()
        found.append(spearmanr(guess, accuracy)[0])
    return float(np.mean(found))


def bounded(values: Floats) -> Floats:
    """The values, with less than the least of them in the place of what is not finite."""
    finite = np.isfinite(values)
    return np.where(finite, values, values[finite].min() - 1)


def ranked(values: Floats) -> Floats:
    """Share [n] of the rows that come before each, 0..1; equal values by row."""
    return values.argsort(kind="stable").argsort() / len(values)


def lost(front: Mask, values: Floats) -> int:
    """Members of a front [n] that would be lost if the `DROPPED` of the rows with the least values were left out."""
    return int(front[ranked(values) < DROPPED].sum())


def main() -> None:
    """Compute, print a table, write the JSON file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--space", default="plain")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--compressors", default="prune_structured,quantize")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table, data, space = pd.read_csv(args.table), load_data(args.dataset, args.data), load("space", args.space)
    members = [load("compressor", word) for word in args.compressors.split(",")]
    compression = CompressionPipeline(compressors=members, profile=load_target(args.target))
    genes = [str(name) for name in table if str(name).startswith(GENE)]
    rows = np.linspace(0, len(data.train) - 1, IMAGES).astype(int)
    images = torch.from_numpy(data.train.images[rows]).float()
    proxies = {word: load("proxy", word) for word in names("proxy")}
    scores: dict[str, list[float]] = {word: [] for word in proxies}
    seconds = dict.fromkeys(proxies, 0.0)
    for _, row in table.iterrows():
        picked = {gene.removeprefix(GENE): row[gene] for gene in genes if not pd.isna(row[gene])}
        candidate = compression.decode(space, picked)
        torch.manual_seed(0)
        net = space.build(
            candidate.architecture, input_shape=data.input_shape, classes=len(data.classes), widths=candidate.pruned
        )
        for word, proxy in proxies.items():
            begin = time.perf_counter()
            scores[word].append(proxy.score(net, images))
            seconds[word] += time.perf_counter() - begin
    accuracy = table["accuracy"].to_numpy(np.float64)
    front = np.array(non_dominated(table[["accuracy", "latency_ms"]].to_numpy(), [True, False]))
    known = np.hstack([pd.get_dummies(table[genes].astype(str)).to_numpy(np.float64), np.log(table[list(FREE)])])
    base = guessed(known, accuracy)
    print(f"{len(table)} nets, {front.sum()} on the front; guess by genes and costs: rank correlation {base:.3f}")
    print(f"{'':12}{'with accuracy':>14}{'s a net':>9}{'front lost':>12}{'guess with it':>15}")
    result = {}
    for word in (*proxies, *FREE):
        values = bounded(np.array(scores[word] if word in proxies else table[word], dtype=np.float64))
        ranks, correlation = ranked(values), float(spearmanr(values, accuracy)[0])
        fell = lost(front, values)
        more = guessed(np.hstack([known, ranks[:, None]]), accuracy) if word in proxies else base
        each = seconds.get(word, 0.0) / len(table)
        print(f"{word:12}{correlation:14.3f}{each:9.3f}{fell:9} of {front.sum()}{more:12.3f}")
        result[word] = {"correlation": correlation, "seconds": each, "front_lost": fell, "guess": more}
    if args.json:
        args.json.write_text(json.dumps({"guess": base, "members": int(front.sum()), "by": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
