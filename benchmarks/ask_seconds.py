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
from nas.compression import Compression
from nas.config import make_config
from nas.description import COLUMNS
from nas.foresight import Foresight
from nas.measure import Measurement
from nas.records import Record, RunFolder
from nas.samplers._base import Known
from nas.score import from_confusion
from nas.study import Study
from nas.targets import target
from search_spaces._base import Choice

ALL = "prune_structured,low_rank,prune_unstructured,quantize,few_bits"


class Timed:
    """Makes the sampler, and adds up the processor time of what it draws at once."""

    def __init__(self, make: Any) -> None:
        self._make, self.seconds = make, 0.0

    def __call__(self, seed: int, known: Known) -> optuna.samplers.BaseSampler:
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
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measured(args, Path(folder))
    print(
        f"{result['genes']} genes, {args.trials} trials: sampler {result['sampler_ms']['median']:.0f} ms (first "
        f"{result['sampler_ms']['first']:.0f}, slowest after it {result['sampler_ms']['slowest']:.0f}), whole ask "
        f"{result['ask_ms']['median']:.0f} ms, processor time"
    )
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def measured(args: argparse.Namespace, runs: Path) -> dict[str, Any]:
    """Figures of `args.asks` asks after `args.trials` trials."""
    config = make_config(
        space=args.space, target=args.target, runs=runs, sampler=args.sampler, max_latency="2ms",
        compressors=tuple(args.compressors.split(",")),
    )  # fmt: skip
    folder, space, profile = RunFolder.open(config), registry.load("space", args.space), target(args.target)
    members = [registry.load("compressor", name) for name in config.compressors]
    compression = Compression(members=members, profile=profile)
    genes: list[Choice] = [
        *space.choices(channel_multiple=profile.channel_multiple), *compression.choices(space.stages)
    ]  # fmt: skip
    foresight = Foresight(
        folder, config, space=space, compression=compression, genes=genes, input_shape=(1, 48, 48), classes=7
    )
    make = Timed(registry.load("sampler", args.sampler))
    study = Study(folder, config, genes, make, known=foresight.known())
    fill(study, foresight, compression, args.trials)
    sampler, whole = [], []
    for _ in range(args.asks):
        make.seconds, begin = 0.0, time.process_time()
        with ExitStack() as held:
            ask = study.ask(held)
            whole.append(time.process_time() - begin)
            sampler.append(make.seconds)
            record = answer(foresight, compression, space, ask.number, ask.picked)
            folder.append(record)
            study.tell(ask, record)
    return {
        "genes": len(genes), "trials": args.trials, "sampler": args.sampler, "sampler_ms": figures(sampler),
        "ask_ms": figures(whole),
    }  # fmt: skip


def figures(seconds: list[float]) -> dict[str, float]:
    """Milliseconds of the first, and median and slowest of the others."""
    found = 1e3 * np.array(seconds)
    return {"first": float(found[0]), "median": float(np.median(found[1:])), "slowest": float(found[1:].max())}


def fill(study: Study, foresight: Foresight, compression: Compression, trials: int) -> None:
    """Tell the study random candidates."""
    rng = np.random.default_rng(0)
    names = list(study.choices)
    while len(study._study.get_trials(deepcopy=False)) < trials:
        picked = {n: c.options[int(rng.integers(len(c.options)))] for n, c in study.choices.items()}
        if foresight.look([picked])[0].key is None:
            continue
        number = len(study._study.get_trials(deepcopy=False))
        record = answer(foresight, compression, foresight._space, number, picked)
        study.folder.append(record)
        latency, score = record.objective("latency"), record.objective("accuracy")
        trial = optuna.trial.create_trial(
            params={n: picked[n] for n in names}, distributions=study.distributions, values=[score, latency],
            user_attrs={"key": record.key}, system_attrs={},
        )  # fmt: skip
        study._study.add_trial(trial)


def answer(foresight: Foresight, compression: Compression, space: Any, number: int, picked: dict[str, Any]) -> Record:
    """A record by formula: latency by kernels and arithmetic, accuracy saturating with it, both with noise."""
    candidate = compression.decode(space, picked)
    seen = foresight.look([picked])[0].description
    columns = dict(zip(COLUMNS, seen.columns, strict=True)) if seen else {}
    kernels = sum(v for n, v in columns.items() if n.rstrip("0123456789") in ("dense", "pointwise", "depthwise"))
    macs = sum(v for n, v in columns.items() if "macs" in n)
    noise = np.random.default_rng(number).normal(0, 0.01, 2)
    latency = float((0.05 + 0.01 * kernels + 2e-8 * macs) * np.exp(noise[0]))
    right = round(1000 * float(np.clip(0.25 + 0.02 * np.log2(1 + macs) - 0.05 * candidate.sparsity + noise[1], 0, 1)))
    return Record(
        trial=number, key=candidate.key, status="complete", candidate=candidate, size_bytes=10_000 + int(macs) % 9999,
        score=from_confusion(np.array([[right, 1000 - right], [0, 0]]), ("yes", "no")),
        latency=Measurement(
            kind="predicted", device="none", runtime="none", latency_ms=latency, low_ms=latency, high_ms=latency,
            p5_ms=None, p99_ms=None, runs=0, drift=None, versions={},
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
