"""Accuracy of the cost model of a search: latency and size predicted before a candidate is built.

    python -m benchmarks.cost_model runs/fer2013-jetson runs/fer2013-cpu

For each run, in the order in which candidates were exported untrained, latency and size are predicted by a model fitted
to the earlier candidates, as a search without `--warm-start` does, and compared with the file's. Printed are the mean
error of the first predictions (from the ninth candidate on) and of the others, and how often the true cost lay within
two predicted standard deviations (nominally 95 %).
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

N_INITIAL = 8
"""Candidates that the first prediction is fitted to."""
N_EARLY = 24
"""Number of predictions that the column `first` averages."""


def feature_extractor(folder: RunFolder, input_shape: tuple[int, int, int]) -> FeatureExtractor:
    """The feature extractor of the run's search, for images [C, H, W]."""
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


def predict_costs(
    columns: Floats, features: Floats, true: Floats, initial_coefficients: Floats
) -> tuple[Floats, Floats]:
    """Errors [n - N_INITIAL] of the predicted logarithms, in order, and their predicted standard deviations.

    Args:
        columns: [n, c] cost columns of the candidates in the order of their export.
        features: [n, d] of the candidates.
        true: [n] costs.
        initial_coefficients: [c] rough prices of the columns.
    """
    errors, deviations = [], []
    for n in range(N_INITIAL, len(true)):
        prediction = fit_cost_model(columns[:n], features[:n], true[:n], initial_coefficients=initial_coefficients)(
            columns[n : n + 1], features[n : n + 1]
        )
        errors.append(float(np.log(true[n]) - prediction.log_mean[0]))
        deviations.append(float(prediction.log_std[0]))
    return np.array(errors), np.array(deviations)


def _mean(errors: Floats) -> str:
    return f"{errors.mean():.1%}" if len(errors) else "-"


def main() -> None:
    """Print a line per run and cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--image", default="1,48,48", help="channels, height and width of the data's images")
    args = parser.parse_args()
    shape: Any = tuple(map(int, args.image.split(",")))
    print(f"{'run':28}{'cost':9}{'exported':>9}{'first ' + str(N_EARLY):>10}{'others':>8}{'within 2 sd':>13}")
    for path in args.runs:
        folder = RunFolder.open_existing(path)
        if folder.config.search.model:
            parser.error(f"runs must have a search space, but {path} compresses {folder.config.search.model}")
        records = [r for r in latest_by_key(folder.records(), "search") if r.latency and r.size_bytes]
        if len(records) <= N_INITIAL:
            parser.error(f"runs must have exported more than {N_INITIAL} candidates, but {path} has {len(records)}")
        descriptions = feature_extractor(folder, shape).extract_all([record.candidate for record in records])
        columns, features = (
            np.stack([d.cost_columns for d in descriptions]),
            np.stack([d.features for d in descriptions]),
        )
        initial_coefficients = {
            "latency": initial_latency_coefficients(load_target(folder.config.search.target)),
            "size": initial_size_coefficients(),
        }
        for cost, coefficients in initial_coefficients.items():
            true = np.array([observed_cost(record, cost) for record in records], dtype=np.float64)
            errors, deviations = predict_costs(columns, features, true, coefficients)
            early, late = (_mean(np.abs(np.expm1(errors_part))) for errors_part in (errors[:N_EARLY], errors[N_EARLY:]))
            inside = float((np.abs(errors) <= 2 * deviations).mean())
            print(f"{path.name:28}{cost:9}{len(records):9}{early:>10}{late:>8}{inside:13.0%}")


if __name__ == "__main__":
    main()
