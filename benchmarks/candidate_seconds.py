"""Seconds from a proposal to its latency, before any training: build, prune, quantise, export, load, measure.

    python -m benchmarks.candidate_seconds [--space darts] [--target cpu] [--candidates 30] [--max-latency 5ms]
                                           [--json OUT.json]

The limit is three seconds. For `cpu` every file is timed side by side with its FP32 baseline, in a process of its own,
as in a search. For a predicted target the time is that of the prediction. With --max-latency, measurements of
candidates that clearly break the limit end early.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from nas.compression.pipeline import CompressionPipeline
from nas.config import make_config
from nas.data.loading import load_data
from nas.evaluation.evaluator import Evaluator
from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.timing_loop import TimingPlan
from nas.latency.measured.worker import TimingWorker
from nas.registry import load
from nas.results.phase_timer import PhaseTimer
from nas.results.run_folder import RunFolder
from nas.runtimes.reference_network import INPUT_SHAPE, reference_path
from nas.targets.catalog import load_target
from search_spaces._base import DisconnectedError

LIMIT_S = 3.0


def make_evaluator(space: str, target_name: str, folder: Path, max_latency: str | None = None) -> Evaluator:
    """An evaluator on the built-in synthetic faces."""
    config = make_config(
        space=space, target=target_name, runs=folder, name="benchmark", trials=1, max_latency=max_latency
    )
    return Evaluator(
        config=config,
        folder=RunFolder.open(config),
        space=load("space", space),
        profile=load_target(target_name),
        host_profile=load_target("cpu"),
        compression=CompressionPipeline(
            compressors=[load("compressor", name) for name in config.compression.compressors],
            profile=load_target(target_name),
        ),
        host_runtime=load("runtime", "onnxruntime"),
        data=load_data("synthetic", None),
        data_digest="",
        timing_worker=TimingWorker(reference_cache=reference_cache_path()),
    )


def main() -> None:
    """Measure, print the table, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="darts")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--max-latency")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)  # as a search does outside training
    rng = random.Random(args.seed)
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        evaluation = make_evaluator(args.space, args.target, Path(folder), args.max_latency)
        if evaluation.timing_worker is not None:
            evaluation.timing_worker.measure(
                [reference_path()],
                runtime="onnxruntime",
                device="this machine",
                input_shape=[INPUT_SHAPE],
                plan=TimingPlan(runs=2),
            )  # starts the timing process, which is not part of a candidate's time
        profile = evaluation.profile
        genes = list(evaluation.space.choices(channel_multiple=profile.channel_multiple))
        genes += evaluation.compression.choices(evaluation.space.stages)
        while len(rows) < args.candidates:
            configuration = {gene.name: rng.choice(gene.options) for gene in genes}
            try:
                candidate = evaluation.compression.decode(evaluation.space, configuration)
            except DisconnectedError:
                continue
            clock, begin = PhaseTimer(), time.perf_counter()
            draft = evaluation.evaluate_untrained(candidate, clock)
            rows.append(
                {
                    "total": time.perf_counter() - begin,
                    **clock.seconds,
                    "latency_ms": draft.latency.latency_ms,
                    "runs": draft.latency.runs,
                }
            )
    print(f"{args.space} on {args.target}, {len(rows)} random candidates, seconds before training")
    for phase in ("build", "export", "measure", "total"):
        values = np.array([row.get(phase, 0.0) for row in rows])
        quantiles = np.percentile(values, [50, 95, 100])
        print(f"  {phase:8} median {quantiles[0]:.2f}  p95 {quantiles[1]:.2f}  most {quantiles[2]:.2f}")
    within = float(np.mean([row["total"] <= LIMIT_S for row in rows]))
    print(f"  within {LIMIT_S:g} s: {within:.0%}; median latency {np.median([r['latency_ms'] for r in rows]):.2f} ms")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
