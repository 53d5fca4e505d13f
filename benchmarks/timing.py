"""How well a timing repeats: one file measured several times, each in a fresh process.

    python benchmarks/timing.py [MODEL.onnx] [--times 5] [--shape 1 48 48] [--json OUT.json]

Spread is (largest - smallest) / median over the processes, of the median and of the 5th percentile of the runs. Without
a file the built-in reference network is measured.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

ONE = """
import json, sys
from pathlib import Path
from nas.measure import measure
from nas.runtimes._reference import reference_path
from nas.runtimes.onnxruntime import RUNTIME
model, shape, threads = json.loads(sys.argv[1])
path = Path(model) if model else reference_path()
m = measure(path, RUNTIME, device="this machine", input_shape=tuple(shape), threads=threads)
print(json.dumps(m.to_dict()))
"""


def spread(values: list[float]) -> float:
    """(largest - smallest) / median."""
    return (max(values) - min(values)) / statistics.median(values)


def main() -> None:
    """Measure, print a table, write the JSON file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--shape", type=int, nargs=3, default=(1, 48, 48), metavar=("C", "H", "W"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    task = json.dumps([str(args.model.resolve()) if args.model else None, args.shape, args.threads])
    found = []
    for i in range(args.times):
        run = subprocess.run([sys.executable, "-c", ONE, task], cwd=ROOT, check=True, capture_output=True, text=True)
        found.append(json.loads(run.stdout))
        m = found[-1]
        interval = f"[{m['low_ms']:.4f}, {m['high_ms']:.4f}]"
        print(
            f"{i + 1:3}  median {m['latency_ms']:.4f} ms {interval}  p5 {m['p5_ms']:.4f}  p99 {m['p99_ms']:.4f}  "
            f"drift {m['drift']:+.1%}  {'; '.join(m['notes'])}"
        )
    result = {
        "median_spread": spread([m["latency_ms"] for m in found]),
        "p5_spread": spread([m["p5_ms"] for m in found]),
    }
    print(f"spread of the median {result['median_spread']:.2%}, of the 5th percentile {result['p5_spread']:.2%}")
    if args.json:
        args.json.write_text(json.dumps({**result, "measurements": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
