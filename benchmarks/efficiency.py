"""Efficiency of workers: how much of N times one worker's rate N workers reach.

    python -m benchmarks.efficiency                          # processes: 8 and 32 workers
    python -m benchmarks.efficiency --executor processes,ray # and a Ray cluster of two nodes on this machine
    python -m benchmarks.efficiency --training --trials 24   # two workers that train, on a quiet machine of two cores

Steps sleep, so that the figure shows the cost of driver, executor and workers, and needs no cores. They go through the
workforce and the executors of a search, after all workers have started. With `--training`, the search itself runs on
synthetic faces with one worker and with two; the sampler is random, so that both evaluate the same candidates.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks._sleeping_steps import sleep
from nas import registry
from nas.config import RunFields, SearchConfig
from nas.evaluation.evaluator import Evaluator
from nas.pipeline import Step
from nas.results.run_folder import RunFolder
from nas.searcher.assembly import assemble
from nas.searcher.workforce import Flow, Steps, Workforce

BARS = {8: 0.9, 32: 0.8}
"""Least efficiency by number of workers."""
TRAINING_BAR, LATENCY_BAR = 1.7, 0.02
WARM_UP_ROUNDS = 60


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executor", default="processes", help="executors, separated by commas")
    parser.add_argument("--workers", default="8,32", help="numbers of workers, separated by commas")
    parser.add_argument("--seconds", type=float, default=0.5, help="duration of a step")
    parser.add_argument("--steps", type=int, default=20, help="steps of each worker")
    parser.add_argument("--training", action="store_true", help="search with one worker and with two")
    parser.add_argument("--trials", type=int, default=24, help="candidates, with --training")
    parser.add_argument("--epochs", type=float, default=1.0, help="epochs of a candidate, with --training")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if options.training:
        return compare_training(options.trials, options.epochs)
    counts = [int(word) for word in options.workers.split(",")]
    print(f"{'executor':<12}{'workers':>8}{'steps/s':>9}{'efficiency':>12}{'bar':>6}")
    with tempfile.TemporaryDirectory() as place:
        config = SearchConfig(space="plain", runs=place, trials=1, threads=1, name="run")
        evaluator = assemble(config).evaluator
        for name in options.executor.split(","):
            single = 0.0
            for count in (1, *counts):
                with _address(name, count) as address:
                    run = RunFields(executor=name, workers=count, threads=1, address=address)
                    rate = measure_rate(run, evaluator, seconds=options.seconds, steps=options.steps)
                single = single or rate
                bar = f"{BARS[count]:6.0%}" if count in BARS else ""
                print(f"{name:<12}{count:>8}{rate:>9.2f}{rate / (count * single):>12.1%}{bar}", flush=True)
    return None


def measure_rate(options: RunFields, evaluator: Evaluator, *, seconds: float, steps: int) -> float:
    """Steps per second of an executor's workers, all of which have started.

    Args:
        options: executor and number of workers.
        evaluator: given to the workers.
        seconds: duration of a step.
        steps: of each worker.
    """
    executor = registry.load("executor", options.executor)(options, lambda *_: None)
    with closing(executor):
        executor.configure(evaluator)
        workforce = Workforce(executor, evaluator.folder, training_s=lambda: None, on_wait=lambda: None)
        for _ in range(WARM_UP_ROUNDS):
            started = time.perf_counter()
            processes = _run(workforce, options.workers, seconds)
            if len(processes) == options.workers and time.perf_counter() - started < 2 * seconds:
                break
        else:
            raise SystemExit(f"{options.workers} workers must start, but only {len(processes)} took a step at once")
        started = time.perf_counter()
        _run(workforce, options.workers * steps, seconds)
        return options.workers * steps / (time.perf_counter() - started)


def _run(workforce: Workforce, n_steps: int, seconds: float) -> set[int]:
    """Take so many steps; the processes that took them."""
    processes: set[int] = set()

    def flow() -> Steps:
        processes.add((yield Step(name="sleep", function=sleep, arguments={"seconds": seconds})))

    flows = [Flow(name=f"flow {index}", key=f"flow {index}", steps=flow()) for index in range(n_steps)]
    workforce.run(lambda: flows.pop() if flows else None)
    return processes


@contextmanager
def _address(executor: str, workers: int) -> Iterator[str | None]:
    """Address of a Ray cluster of two nodes with a CPU for each worker; None for other executors."""
    if executor != "ray":
        yield None
        return
    from ray.cluster_utils import Cluster

    halves = (workers - workers // 2, workers // 2)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": halves[0]})
    try:
        cluster.add_node(num_cpus=halves[1])
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def compare_training(trials: int, epochs: float) -> None:
    """Print candidates per hour with one worker and with two, and the latencies of the same candidates."""
    rates, latencies = [], []
    with tempfile.TemporaryDirectory() as place:
        for workers in (1, 2):
            name = f"workers-{workers}"
            fields = f"--target cpu --space plain --sampler random --trials {trials} --epochs {epochs} --verify 0"
            command = [sys.executable, "-m", "nas", "search", *fields.split(), "--threads", "1", "--execution", "plain"]
            started = time.perf_counter()
            subprocess.run([*command, "--workers", str(workers), "--runs", place, "--name", name], check=True)
            records = [r for r in RunFolder.open_existing(Path(place) / name).records() if r.phase == "search"]
            rates.append(3600 * len(records) / (time.perf_counter() - started))
            latencies.append({(r.key, r.size_bytes): r.host.latency_ms for r in records if r.host})
            print(f"{workers} workers: {rates[-1]:.0f} candidates per hour", flush=True)
    print(f"ratio {rates[1] / rates[0]:.2f}, bar {TRAINING_BAR}")
    ratios = [latencies[1][file] / latencies[0][file] for file in latencies[0].keys() & latencies[1].keys()]
    if not ratios:
        raise SystemExit("no candidate is in both runs; use more trials")
    print(
        f"latency with 2 workers / with 1, of the same {len(ratios)} files: median {statistics.median(ratios):.3f}, "
        f"range {min(ratios):.3f} to {max(ratios):.3f}; bar 1 +- {LATENCY_BAR}"
    )


if __name__ == "__main__":
    main()
