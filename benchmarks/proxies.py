"""Zero-cost proxies on the trained nets of a table, compared with figures that cost nothing.

    python -m benchmarks.proxies --table benchmarks/data/fer2013_plain.csv --data fer2013.csv [--json OUT.json]

For each proxy, and for parameters, multiply-accumulates, latency and size, the table states:

- `with accuracy`: the rank correlation with accuracy over all rows;
- `s a net`: seconds per net;
- `front lost`: how many members of the table's front are lost if the fifth of the rows that it ranks lowest is dropped;
- `guess with it`: the rank correlation of a ridge regression of accuracy on genes, costs and this figure, with ten
folds,
  mean of ten divisions.
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
"""Ridge penalty on standardised features."""


def held_out_correlation(features: Floats, accuracy: Floats) -> float:
    """Rank correlation of held-out ridge predictions [n, d] -> [n], mean over divisions into folds."""
    scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)
    correlations = []
    for division in range(DIVISIONS):
        fold = np.random.default_rng(division).permutation(len(accuracy)) % FOLDS
        predicted = np.zeros(len(accuracy))
        for held_out in range(FOLDS):
            x, y = scaled[fold != held_out], accuracy[fold != held_out]
            weights = np.linalg.solve(x.T @ x + PENALTY * np.eye(x.shape[1]), x.T @ (y - y.mean()))
            predicted[fold == held_out] = scaled[fold == held_out] @ weights + y.mean()
        correlations.append(spearmanr(predicted, accuracy)[0])
    return float(np.mean(correlations))


def replace_non_finite(values: Floats) -> Floats:
    """The values, with non-finite ones replaced by the smallest finite value minus 1."""
    finite = np.isfinite(values)
    return np.where(finite, values, values[finite].min() - 1)


def rank_shares(values: Floats) -> Floats:
    """Share [n], 0..1, of the rows ranked below each; the index breaks ties."""
    return values.argsort(kind="stable").argsort() / len(values)


def count_lost(front: Mask, values: Floats) -> int:
    """Members of a front [n] among the `DROPPED` share of the rows with the lowest values."""
    return int(front[rank_shares(values) < DROPPED].sum())


def main() -> None:
    """Compute, print the table, and write the JSON file if requested."""
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
    members = [load("compressor", name) for name in args.compressors.split(",")]
    compression = CompressionPipeline(compressors=members, profile=load_target(args.target))
    genes = [str(name) for name in table if str(name).startswith(GENE)]
    rows = np.linspace(0, len(data.train) - 1, IMAGES).astype(int)
    images = torch.from_numpy(data.train.images[rows]).float()
    proxies = {name: load("proxy", name) for name in names("proxy")}
    scores: dict[str, list[float]] = {name: [] for name in proxies}
    seconds = dict.fromkeys(proxies, 0.0)
    for _, row in table.iterrows():
        configuration = {gene.removeprefix(GENE): row[gene] for gene in genes if not pd.isna(row[gene])}
        candidate = compression.decode(space, configuration)
        torch.manual_seed(0)
        net = space.build(
            candidate.architecture, input_shape=data.input_shape, classes=len(data.classes), widths=candidate.pruned
        )
        for name, proxy in proxies.items():
            begin = time.perf_counter()
            scores[name].append(proxy.score(net, images))
            seconds[name] += time.perf_counter() - begin
    accuracy = table["accuracy"].to_numpy(np.float64)
    front = np.array(non_dominated(table[["accuracy", "latency_ms"]].to_numpy(), [True, False]))
    known_features = np.hstack(
        [pd.get_dummies(table[genes].astype(str)).to_numpy(np.float64), np.log(table[list(FREE)])]
    )
    baseline = held_out_correlation(known_features, accuracy)
    print(f"{len(table)} nets, {front.sum()} on the front; guess by genes and costs: rank correlation {baseline:.3f}")
    print(f"{'':12}{'with accuracy':>14}{'s a net':>9}{'front lost':>12}{'guess with it':>15}")
    result = {}
    for name in (*proxies, *FREE):
        values = replace_non_finite(np.array(scores[name] if name in proxies else table[name], dtype=np.float64))
        ranks, correlation = rank_shares(values), float(spearmanr(values, accuracy)[0])
        n_lost = count_lost(front, values)
        correlation_with_it = (
            held_out_correlation(np.hstack([known_features, ranks[:, None]]), accuracy) if name in proxies else baseline
        )
        seconds_per_net = seconds.get(name, 0.0) / len(table)
        print(
            f"{name:12}{correlation:14.3f}{seconds_per_net:9.3f}{n_lost:9} of {front.sum()}{correlation_with_it:12.3f}"
        )
        result[name] = {
            "correlation": correlation,
            "seconds": seconds_per_net,
            "front_lost": n_lost,
            "guess": correlation_with_it,
        }
    if args.json:
        args.json.write_text(
            json.dumps({"guess": baseline, "members": int(front.sum()), "by": result}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
