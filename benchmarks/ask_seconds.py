"""Time that the default sampler takes for a proposal, with everything that a search computes for it.

    python -m benchmarks.ask_seconds --space darts --trials 1000 --asks 20 --compressors prune_structured,low_rank,...

A run folder is filled with random candidates of the real space. Their costs and accuracies come from a formula; nothing
is built or trained. The sampler then makes proposals in the search's own study. The figures are processor time of this
process, which a busy machine changes little: of the sampler alone, its surrogates and features included, and of the
whole `ask` with Optuna's storage. `first` is the first proposal of a fresh process, with empty caches.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from nas import registry
from nas.candidate import Candidate
from nas.compression.pipeline import CompressionPipeline
from nas.config import make_config
from nas.latency.latency import Latency
from nas.latency.measured.gc_control import gc_frozen
from nas.metrics import score_from_confusion
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.acquisition.base import LOW_FIDELITY, LOW_FIDELITY_ONLY, SamplerContext
from nas.searcher.acquisition.candidate_features import COST_COLUMNS
from nas.searcher.acquisition.surrogate import SearchSurrogate
from nas.searcher.assembly import make_study
from nas.searcher.study import Study
from nas.targets.catalog import load_target
from search_spaces._base import Choice

DEFAULT = "prune_structured,quantize"
ALL = "prune_structured,low_rank,prune_unstructured,quantize,few_bits"


class Timed:
    """A sampler factory that adds up the processor time of `sample_relative`."""

    def __init__(self, make: Any) -> None:
        self._make, self.seconds = make, 0.0

    def __call__(self, seed: int, context: SamplerContext) -> optuna.samplers.BaseSampler:
        """A sampler with a timer."""
        sampler: optuna.samplers.BaseSampler = self._make(seed, context)
        sample = sampler.sample_relative

        def timed(*arguments: Any) -> dict[str, Any]:
            begin = time.process_time()
            configuration = sample(*arguments)
            self.seconds += time.process_time() - begin
            return configuration

        sampler.sample_relative = timed  # type: ignore[method-assign]
        return sampler


def main() -> None:
    """Fill a run, time proposals, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="darts")
    parser.add_argument("--target", default="jetson")
    parser.add_argument("--sampler", default="screened")
    parser.add_argument("--compressors", default=ALL)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--asks", type=int, default=20)
    parser.add_argument(
        "--stopped", type=float, default=0.0, help="share of the trials that stopped at a low-fidelity rung"
    )
    parser.add_argument(
        "--broken", type=float, default=0.0, help="share of the trials that break a constraint, drawn at random"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, gc_frozen():  # as in a search
        result = measured(args, Path(folder))
    sampler_ms, ask_ms = result["sampler_ms"], result["ask_ms"]
    print(
        f"{result['genes']} genes, {args.trials} trials: sampler {sampler_ms['mean']:.0f} ms on average (first "
        f"{sampler_ms['first']:.0f}, slowest after it {sampler_ms['slowest']:.0f}), "
        f"whole ask {ask_ms['mean']:.0f} ms, processor time"
    )
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


class SearchParts:
    """The parts of a search that propose: run folder, space, compression and surrogates; no net is built."""

    def __init__(
        self,
        space: str,
        target_name: str,
        compressors: str,
        sampler: str,
        runs: Path,
        *,
        limit_ms: float,
        seed: int = 0,
    ) -> None:
        self.config = make_config(
            space=space, target=target_name, runs=runs, sampler=sampler, max_latency=limit_ms, seed=seed,
            compressors=tuple(compressors.split(",")),
        )  # fmt: skip
        self.folder, self.space = RunFolder.open(self.config), registry.load("space", space)
        self.profile = load_target(target_name)
        self.multiple = self.profile.channel_multiple
        members = [registry.load("compressor", name) for name in self.config.compression.compressors]
        self.compression = CompressionPipeline(compressors=members, profile=self.profile)
        architecture_genes = self.space.choices(channel_multiple=self.multiple)
        self.genes: list[Choice] = [*architecture_genes, *self.compression.choices(self.space.stages)]
        self.surrogate = SearchSurrogate(
            self.folder, self.config, space=self.space, compression=self.compression, genes=self.genes,
            input_shape=(1, 48, 48), classes=7,
        )  # fmt: skip

    def columns(self, configuration: dict[str, Any]) -> dict[str, float]:
        """What the net of a configuration computes, by cost column; empty for a disconnected net."""
        features = self.surrogate.decode_all([configuration])[0].features
        return dict(zip(COST_COLUMNS, features.cost_columns.tolist(), strict=True)) if features else {}

    def record(self, number: int, candidate: Candidate, accuracy: float, latency_ms: float) -> Record:
        """A record with the given values."""
        correct, limit = round(3589 * accuracy), self.config.limits.max_latency or np.inf
        violation = latency_ms / limit - 1
        return Record(
            trial=number, key=candidate.key, status="infeasible" if violation > 0 else "complete", candidate=candidate,
            score=score_from_confusion(np.array([[correct, 3589 - correct], [0, 0]]), ("yes", "no")), size_bytes=10_000,
            violations={"max_latency": violation},
            latency=Latency(
                kind="predicted", device="none", runtime="none", latency_ms=latency_ms, low_ms=latency_ms,
                high_ms=latency_ms, p5_ms=None, p99_ms=None, runs=0, drift=None, versions={},
            ),
        )  # fmt: skip


def measured(args: argparse.Namespace, runs: Path) -> dict[str, Any]:
    """Figures of `args.asks` proposals after `args.trials` trials."""
    parts = SearchParts(args.space, args.target, args.compressors, args.sampler, runs, limit_ms=5.0)
    make_sampler = Timed(registry.load("sampler", args.sampler))
    study = make_study(parts.folder, parts.config, parts.genes, make_sampler, context=parts.surrogate.sampler_context())
    fill(study, parts, args.trials, stopped=args.stopped, broken=args.broken)
    sampler_seconds, ask_seconds = [], []
    for _ in range(args.asks):
        make_sampler.seconds, begin = 0.0, time.process_time()
        ask = study.ask()
        ask_seconds.append(time.process_time() - begin)
        sampler_seconds.append(make_sampler.seconds)
        record = synthetic_record(parts, ask.number, ask.picked)
        parts.folder.append(record)
        study.tell(ask, record)
    return {
        "genes": len(parts.genes), "trials": args.trials, "sampler": args.sampler,
        "sampler_ms": figures(sampler_seconds), "ask_ms": figures(ask_seconds),
    }  # fmt: skip


def figures(seconds: list[float]) -> dict[str, float]:
    """Milliseconds of the first value, and mean and maximum of the others."""
    milliseconds = 1e3 * np.array(seconds)
    return {
        "first": float(milliseconds[0]),
        "mean": float(milliseconds[1:].mean()),
        "slowest": float(milliseconds[1:].max()),
    }


def fill(study: Study, parts: SearchParts, trials: int, *, stopped: float = 0.0, broken: float = 0.0) -> None:
    """Add random feasible candidates to the study.

    With a share that stopped early, every trial has a low-fidelity accuracy, which is the final one with some noise.

    Args:
        study: of the search.
        parts: of the search.
        trials: number of candidates.
        stopped: share of the trials that stopped at the low-fidelity rung.
        broken: share of the trials that break a constraint on accuracy.
    """
    rng, outcome_rng, number = np.random.default_rng(0), np.random.default_rng(1), 0
    while number < trials:
        configuration = {name: c.options[int(rng.integers(len(c.options)))] for name, c in study.choices.items()}
        if not parts.columns(configuration):
            continue
        record = synthetic_record(parts, number, configuration)
        if record.status != "complete":
            continue
        parts.folder.append(record)
        values = [record.objective("accuracy"), record.objective("latency")]
        attributes: dict[str, Any] = {"key": record.key}
        if stopped:
            low_fidelity = float(values[0] or 0.0) - 0.1 + float(outcome_rng.normal(0, 0.02))
            attributes |= {LOW_FIDELITY: [low_fidelity, None], LOW_FIDELITY_ONLY: outcome_rng.random() < stopped}
        trial = optuna.trial.create_trial(
            params=configuration, distributions=study.distributions, values=values, user_attrs=attributes
        )
        trial.set_constraint("min_accuracy", 1.0 if outcome_rng.random() < broken else -1.0)
        study._study.add_trial(trial)
        number += 1


def synthetic_record(parts: SearchParts, number: int, configuration: dict[str, Any]) -> Record:
    """A record by formula, with noise.

    Latency is a sum over kernels and arithmetic; accuracy grows with arithmetic and falls with sparsity.
    """
    candidate, columns = parts.compression.decode(parts.space, configuration), parts.columns(configuration)
    kernels = sum(v for n, v in columns.items() if n.rstrip("0123456789") in ("dense", "pointwise", "depthwise"))
    macs = sum(v for n, v in columns.items() if "macs" in n)
    noise = np.random.default_rng(number).normal(0, 0.01, 2)
    latency = float((0.05 + 0.01 * kernels + 2e-8 * macs) * np.exp(noise[0]))
    accuracy = float(np.clip(0.25 + 0.02 * np.log2(1 + macs) - 0.05 * candidate.sparsity + noise[1], 0, 1))
    return parts.record(number, candidate, accuracy, latency)


if __name__ == "__main__":
    main()
