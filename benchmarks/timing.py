"""Repeatability of a latency measurement: one file measured several times, each in a fresh process.

    python -m benchmarks.timing [MODEL.onnx] [--times 20] [--busy] [--pin CORE] [--shape 1 48 48] [--json OUT.json]

Spread is (largest - smallest) / median over the processes, of the quoted figure (the median of the runs that count) and
of their 5th percentile. A quoted interval covers the noise within one measurement, so it need not contain the median
over processes in 95 % of them; how often it does is printed. The bar is a spread of 1 % on an idle machine and of 3 %
with `--busy`, which trains a net on another core meanwhile. The default file is the built-in reference network.
`--forget` ignores the best time of the reference network that earlier measurements on this machine left behind.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.timing import IDLE_WAIT_S
from nas.latency.measured.timing_loop import TimingPlan
from nas.latency.measured.worker import TimingWorker
from nas.runtimes.reference_network import reference_path

BARS = {False: 0.01, True: 0.03}
TRAINING = """
import torch
torch.set_num_threads(1)
net = torch.nn.Sequential(torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3), torch.nn.ReLU(),
                          torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 7))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
images, labels = torch.randn(64, 1, 48, 48), torch.randint(0, 7, (64,))
print("training", flush=True)
while True:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(images), labels).backward()
    optimizer.step()
"""


@contextmanager
def training() -> Iterator[None]:
    """Train a net on one thread of another process while the block runs."""
    process = subprocess.Popen([sys.executable, "-c", TRAINING], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def spread(values: list[float]) -> float:
    """(largest - smallest) / median."""
    return (max(values) - min(values)) / statistics.median(values)


def main() -> None:
    """Measure, print the table, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument(
        "--patience", type=float, default=IDLE_WAIT_S, help="longest wait in seconds for a calm machine"
    )
    parser.add_argument("--busy", action="store_true", help="train on another core meanwhile")
    parser.add_argument(
        "--forget", action="store_true", help="ignore the remembered best time of the reference network"
    )
    parser.add_argument("--shape", type=int, nargs=3, default=(1, 48, 48), metavar=("C", "H", "W"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pin", type=int, nargs="*", default=(), metavar="CORE")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    path, shape = args.model or reference_path(), (args.shape[0], args.shape[1], args.shape[2])
    plan, measurements = TimingPlan(runs=args.runs, idle_wait_s=args.patience), []
    with tempfile.TemporaryDirectory() as folder:
        reference_cache = Path(folder) / "reference.json" if args.forget else reference_cache_path()
        for i in range(args.times):
            with TimingWorker(reference_cache=reference_cache, cpu_cores=args.pin) as timer:
                if (
                    i == 0 and args.forget
                ):  # remember the calm machine's best time, which a regular user has from earlier measurements
                    timer.measure([path], runtime="onnxruntime", device="this machine", input_shape=[shape], plan=plan)
                with training() if args.busy else tempfile.SpooledTemporaryFile():
                    (m,) = timer.measure(
                        [path], runtime="onnxruntime", device="this machine", input_shape=[shape], plan=plan,
                        threads=args.threads,
                    )  # fmt: skip
            measurements.append(m)
            print(
                f"{i + 1:3}  median {m.latency_ms:.4f} ms [{m.low_ms:.4f}, {m.high_ms:.4f}]  p5 {m.p5_ms:.4f}  "
                f"p99 {m.p99_ms:.4f}  drift {m.drift:+.1%}  {'; '.join(m.notes)}",
                flush=True,
            )
    median_ms = statistics.median(m.latency_ms for m in measurements)
    result = {
        "median_spread": spread([m.latency_ms for m in measurements]),
        "p5_spread": spread([m.robust_ms for m in measurements]),
        "covered": statistics.mean(m.low_ms <= median_ms <= m.high_ms for m in measurements),
        "interval_width": statistics.median((m.high_ms - m.low_ms) / m.latency_ms for m in measurements),
    }
    bar = BARS[args.busy]
    verdict = "met" if result["median_spread"] <= bar else "missed"
    print(
        f"spread of the quoted figure {result['median_spread']:.2%} (bar {bar:.0%}: {verdict}), "
        f"of the 5th percentile {result['p5_spread']:.2%}"
    )
    print(
        f"the interval is {result['interval_width']:.2%} wide and holds the median of all processes in "
        f"{result['covered']:.0%} of them"
    )
    if args.json:
        args.json.write_text(
            json.dumps({**result, "measurements": [m.to_dict() for m in measurements]}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
