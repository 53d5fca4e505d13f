"""How well does a search know what a candidate costs before it builds it?

    python -m benchmarks.cost_model runs/fer2013-jetson runs/fer2013-cpu

For each run, each candidate in the order it was drafted: latency and size are guessed from those of the run before it,
as a search of today does without `--warm-start`, and held against what its file showed. Printed are the mean error of
the first candidates, from the ninth on, and of the others, and how often the truth lay within two of the guess's
standard deviations (95 % is meant).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas import registry
from nas.compression.pipeline import CompressionPipeline
from nas.results.front import latest_by_key
from nas.results.run_folder import RunFolder
from nas.searcher.acquisition.candidate_features import FeatureExtractor
from nas.searcher.acquisition.cost_model import fit_cost_model, initial_latency_coefficients, initial_size_coefficients
from nas.searcher.acquisition.surrogate import observed_cost
from nas.targets.catalog import load_target
from search_spaces._base import Choice

Floats = npt.NDArray[np.float64]

LEAST = 8
"""Candidates that are learned from before the first guess counts."""
EARLY = 24
"""Guesses after that which are told apart from the others."""


def describer(folder: RunFolder, input_shape: tuple[int, int, int]) -> FeatureExtractor:
    """That of the run's search, on images [C, H, W]."""
    config = folder.config
    profile, space = load_target(config.search.target), registry.load("space", config.search.space)
    compression = CompressionPipeline(
        compressors=[registry.load("compressor", n) for n in config.compression.compressors], profile=profile
    )
    genes: list[Choice] = [*space.choices(channel_multiple=profile.channel_multiple)]
    genes += compression.choices(space.stages)
    classes = len(json.loads((folder.path / "data.json").read_text())["classes"])
    return FeatureExtractor(
        space, genes, neutral=compression.neutral_settings(space.stages), input_shape=input_shape, classes=classes
    )  # fmt: skip


def guesses(columns: Floats, traits: Floats, true: Floats, prices: Floats) -> tuple[Floats, Floats]:
    """Errors of the logarithm and standard deviations that were stated with the guesses, in order.

    Args:
        columns: [n, c] of the candidates in the order they were drafted.
        traits: [n, d].
        true: [n] what they cost.
        prices: [c] rough ones.
    """
    errors, deviations = [], []
    for n in range(LEAST, len(true)):
        guess = fit_cost_model(columns[:n], traits[:n], true[:n], initial_coefficients=prices)(
            columns[n : n + 1], traits[n : n + 1]
        )
        errors.append(float(np.log(true[n]) - guess.log_mean[0]))
        deviations.append(float(guess.log_std[0]))
    return np.array(errors), np.array(deviations)


def _mean(errors: Floats) -> str:
    return f"{errors.mean():.1%}" if len(errors) else "-"


def main() -> None:
    """Print a line for each run and cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--image", default="1,48,48", help="channels, height and width of the data's images")
    args = parser.parse_args()
    shape: Any = tuple(map(int, args.image.split(",")))
    print(f"{'run':28}{'cost':9}{'drafted':>8}{'first ' + str(EARLY):>10}{'others':>8}{'within 2 sd':>13}")
    for path in args.runs:
        folder = RunFolder.open_existing(path)
        if folder.config.search.model:
            parser.error(f"runs must have a search space, but {path} compresses {folder.config.search.model}")
        records = [r for r in latest_by_key(folder.records(), "search") if r.latency and r.size_bytes]
        if len(records) <= LEAST:
            parser.error(f"runs must have drafted more than {LEAST} candidates, but {path} has {len(records)}")
        found = describer(folder, shape).extract_all([record.candidate for record in records])
        columns, traits = np.stack([d.cost_columns for d in found]), np.stack([d.features for d in found])
        rough = {
            "latency": initial_latency_coefficients(load_target(folder.config.search.target)),
            "size": initial_size_coefficients(),
        }
        for cost, prices in rough.items():
            true = np.array([observed_cost(record, cost) for record in records], dtype=np.float64)
            errors, deviations = guesses(columns, traits, true, prices)
            early, late = (_mean(np.abs(np.expm1(each))) for each in (errors[:EARLY], errors[EARLY:]))
            inside = float((np.abs(errors) <= 2 * deviations).mean())
            print(f"{path.name:28}{cost:9}{len(records):8}{early:>10}{late:>8}{inside:13.0%}")


if __name__ == "__main__":
    main()
