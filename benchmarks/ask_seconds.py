"""How long the default sampler takes to ask, with all that a search tells it, after so many trials.

    python -m benchmarks.ask_seconds --space darts --trials 1000 --asks 20 --compressors prune_structured,low_rank,...

A run folder is filled with random candidates of the real space; what they cost and are worth is made up from their
descriptions, nothing is built or trained. Then the sampler asks, in the search's own study, and processor time is
counted (of this process, so that a busy machine changes little): of the sampler alone, knowledge included, and of the
whole ask with Optuna's storage. `first` is the first ask of a fresh process, when nothing is remembered yet.
"""

import argparse
import json
import tempfile
import time
from contextlib import ExitStack
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
    """Makes the sampler, and adds up the processor time of what it draws at once."""

    def __init__(self, make: Any) -> None:
        self._make, self.seconds = make, 0.0

    def __call__(self, seed: int, known: SamplerContext) -> optuna.samplers.BaseSampler:
        """The sampler with its clock."""
        sampler: optuna.samplers.BaseSampler = self._make(seed, known)
        draw = sampler.sample_relative

        def timed(*arguments: Any) -> dict[str, Any]:
            begin = time.process_time()
            found = draw(*arguments)
            self.seconds += time.process_time() - begin
            return found

        sampler.sample_relative = timed  # type: ignore[method-assign]
        return sampler


def main() -> None:
    """Fill a run, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="darts")
    parser.add_argument("--target", default="jetson")
    parser.add_argument("--sampler", default="screened")
    parser.add_argument("--compressors", default=ALL)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--asks", type=int, default=20)
    parser.add_argument("--stopped", type=float, default=0.0, help="share of the trials that ended at a first look")
    parser.add_argument("--broken", type=float, default=0.0, help="share of the trials that broke a limit, for luck")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, gc_frozen():  # as a search has it
        result = measured(args, Path(folder))
    own, whole = result["sampler_ms"], result["ask_ms"]
    print(
        f"{result['genes']} genes, {args.trials} trials: sampler {own['mean']:.0f} ms on average (first "
        f"{own['first']:.0f}, slowest after it {own['slowest']:.0f}), whole ask {whole['mean']:.0f} ms, processor time"
    )
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


class Tool:
    """The parts of a search that ask: run folder, space, compression and what is known; without any net."""

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
        own = self.space.choices(channel_multiple=self.multiple)
        self.genes: list[Choice] = [*own, *self.compression.choices(self.space.stages)]
        self.foresight = SearchSurrogate(
            self.folder, self.config, space=self.space, compression=self.compression, genes=self.genes,
            input_shape=(1, 48, 48), classes=7,
        )  # fmt: skip

    def columns(self, picked: dict[str, Any]) -> dict[str, float]:
        """What a pick's net has to do, by name; empty without a path."""
        seen = self.foresight.decode_all([picked])[0].features
        return dict(zip(COST_COLUMNS, seen.cost_columns.tolist(), strict=True)) if seen else {}

    def record(self, number: int, candidate: Candidate, accuracy: float, latency_ms: float) -> Record:
        """A record of made-up values."""
        right, limit = round(3589 * accuracy), self.config.limits.max_latency or np.inf
        broken = latency_ms / limit - 1
        return Record(
            trial=number, key=candidate.key, status="infeasible" if broken > 0 else "complete", candidate=candidate,
            score=score_from_confusion(np.array([[right, 3589 - right], [0, 0]]), ("yes", "no")), size_bytes=10_000,
            violations={"max_latency": broken},
            latency=Latency(
                kind="predicted", device="none", runtime="none", latency_ms=latency_ms, low_ms=latency_ms,
                high_ms=latency_ms, p5_ms=None, p99_ms=None, runs=0, drift=None, versions={},
            ),
        )  # fmt: skip


def measured(args: argparse.Namespace, runs: Path) -> dict[str, Any]:
    """Figures of `args.asks` asks after `args.trials` trials."""
    tool = Tool(args.space, args.target, args.compressors, args.sampler, runs, limit_ms=5.0)
    make = Timed(registry.load("sampler", args.sampler))
    study = make_study(tool.folder, tool.config, tool.genes, make, context=tool.foresight.sampler_context())
    fill(study, tool, args.trials, stopped=args.stopped, broken=args.broken)
    sampler, whole = [], []
    for _ in range(args.asks):
        make.seconds, begin = 0.0, time.process_time()
        with ExitStack() as held:
            ask = study.ask(held)
            whole.append(time.process_time() - begin)
            sampler.append(make.seconds)
            record = answer(tool, ask.number, ask.picked)
            tool.folder.append(record)
            study.tell(ask, record)
    return {
        "genes": len(tool.genes), "trials": args.trials, "sampler": args.sampler, "sampler_ms": figures(sampler),
        "ask_ms": figures(whole),
    }  # fmt: skip


def figures(seconds: list[float]) -> dict[str, float]:
    """Milliseconds of the first, and mean and slowest of the others."""
    found = 1e3 * np.array(seconds)
    return {"first": float(found[0]), "mean": float(found[1:].mean()), "slowest": float(found[1:].max())}


def fill(study: Study, tool: Tool, trials: int, *, stopped: float = 0.0, broken: float = 0.0) -> None:
    """Tell the study so many random candidates that keep the limit on latency.

    With a share that stopped early all have a first look, which tells the accuracy with some noise.
    """
    rng, luck, number = np.random.default_rng(0), np.random.default_rng(1), 0
    while number < trials:
        picked = {name: c.options[int(rng.integers(len(c.options)))] for name, c in study.choices.items()}
        if not tool.columns(picked):
            continue
        record = answer(tool, number, picked)
        if record.status != "complete":
            continue
        tool.folder.append(record)
        values = [record.objective("accuracy"), record.objective("latency")]
        attributes: dict[str, Any] = {"key": record.key}
        if stopped:
            look = float(values[0] or 0.0) - 0.1 + float(luck.normal(0, 0.02))
            attributes |= {LOW_FIDELITY: [look, None], LOW_FIDELITY_ONLY: luck.random() < stopped}
        trial = optuna.trial.create_trial(
            params=picked, distributions=study.distributions, values=values, user_attrs=attributes
        )
        trial.set_constraint("min_accuracy", 1.0 if luck.random() < broken else -1.0)
        study._study.add_trial(trial)
        number += 1


def answer(tool: Tool, number: int, picked: dict[str, Any]) -> Record:
    """A record by formula: latency by kernels and arithmetic, accuracy growing with it, both with noise."""
    candidate, columns = tool.compression.decode(tool.space, picked), tool.columns(picked)
    kernels = sum(v for n, v in columns.items() if n.rstrip("0123456789") in ("dense", "pointwise", "depthwise"))
    macs = sum(v for n, v in columns.items() if "macs" in n)
    noise = np.random.default_rng(number).normal(0, 0.01, 2)
    latency = float((0.05 + 0.01 * kernels + 2e-8 * macs) * np.exp(noise[0]))
    accuracy = float(np.clip(0.25 + 0.02 * np.log2(1 + macs) - 0.05 * candidate.sparsity + noise[1], 0, 1))
    return tool.record(number, candidate, accuracy, latency)


if __name__ == "__main__":
    main()
