"""Peak of the activations by the graph, beside what ONNX Runtime really allocates for them on this machine.

    python -m benchmarks.memory [MODEL.onnx ...] [--nets 20] [--batch 64] [--json OUT]

Files that are named, or random candidates of the spaces plain and darts in FP32. Each runs in a process of its own
with a batch so large that its activations dominate: the growth of the resident peak (VmHWM, reset before the run) plus
the images, divided by the batch, is what ONNX Runtime took for one image. Its arena is off, which would round up.
Nothing is fitted, so every row is held out. Works on Linux.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

if not __package__:  # run as a file: import siblings as `python -m benchmarks.X` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import onnxruntime as ort

from nas import registry
from nas.compression.pipeline import CompressionPipeline
from nas.latency.costs import compute_costs
from nas.runtimes.onnx_input import read_onnx_input
from nas.targets.catalog import load_target
from nas.targets.random_candidates import export_untrained, random_candidate, with_uniform_bits

SPACES = ("plain", "darts")
INPUT_SHAPE = (1, 48, 48)


def resident_peak_bytes() -> int:
    """Largest resident size of this process since its last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def allocated_bytes(model: Path, batch: int) -> float:
    """Bytes that ONNX Runtime takes for the activations of one image, image and outputs included. In this process."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    images = np.zeros((batch, *entry.shape[1:]), np.float32)
    session.run(None, {entry.name: images[:1]})
    images += 1  # touches each page, so that none of them counts as growth
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to the present size
    before = resident_peak_bytes()
    session.run(None, {entry.name: images})
    return (resident_peak_bytes() - before + images.nbytes) / batch


def allocated_in_child(model: Path, batch: int) -> float:
    """`allocated_bytes` in a process that has run nothing else, whose large buffers go back to the system at once."""
    command = [sys.executable, "-m", "benchmarks.memory", str(model), "--batch", str(batch), "--child"]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def random_files(folder: Path, count: int) -> list[Path]:
    """Untrained files of random FP32 candidates, by turns of each space."""
    profile, rng, files = load_target("cpu"), Random(0), []
    for i in range(count):
        space = registry.load("space", SPACES[i % len(SPACES)])
        pipeline = CompressionPipeline(compressors=[registry.load("compressor", "quantize")], profile=profile)
        candidate = with_uniform_bits(random_candidate(space, pipeline, rng), 32)
        path = folder / f"{candidate.space}-{i}.onnx"
        export_untrained(candidate, path, space=space, compression=pipeline, input_shape=INPUT_SHAPE)
        files.append(path)
    return files


def compare(models: list[Path], batch: int) -> list[dict[str, Any]]:
    """A row for each file; files with a fixed batch are left out."""
    rows = []
    for model in models:
        memory = compute_costs(model).memory
        if memory is None or read_onnx_input(model).dims[0]:
            continue
        real = allocated_in_child(model, batch)
        rows.append({
            "model": model.stem, "predicted_bytes": memory.activation_bytes, "allocated_bytes": real,
            "ratio": memory.activation_bytes / real, "peak": memory.peak_kernel,
        })  # fmt: skip
        print(f"{model.stem:24s} {memory.activation_bytes:10,} {real:12,.0f} {rows[-1]['ratio']:6.2f}", flush=True)
    return rows


def main() -> None:
    """Print the table, and write it as JSON where that is wanted."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--nets", type=int, default=20, help="random candidates where no file is given")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(allocated_bytes(arguments.models[0], arguments.batch))
        return
    print(f"{'model':24s} {'by the graph':>10s} {'allocated':>12s} {'ratio':>6s}   bytes of one image")
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(arguments.models or random_files(Path(folder), arguments.nets), arguments.batch)
    ratios = np.array([row["ratio"] for row in rows])
    errors = np.abs(ratios - 1)
    print(
        f"{len(rows)} files: median error {np.median(errors):.1%}, 90 % of them within {np.quantile(errors, 0.9):.1%}"
    )
    print(f"ratio from {ratios.min():.2f} to {ratios.max():.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
