"""Latency and parity of one model in each input form: uint8, channels last, grey from RGB, any size.

    python -m benchmarks.input_forms MODEL.onnx [--sides 48 96 160 320] [--rounds 15] [--runs 40]

MODEL is a plain file of `nas export` or of a run. Each form is written from it, proved to compute the same, and timed
in ONNX Runtime on one thread: all forms in one process, one after the other in each round, so that other load on the
machine meets all of them. A time is the 10th percentile of a round's runs, as longer ones are those that other load
interrupted; shown are medians over rounds, of the times and of their ratios to the plain file's. What the form saves
on the host is timed too: Pillow's conversion of the same picture to what the plain file takes.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from nas.errors import NasError
from nas.input_form import InputForm, requested_form
from nas.onnx_export.input_rewrite import network_shape, with_input_form
from nas.reporting.input_parity import check_input_parity, host_picture
from nas.runtimes.backends.onnxruntime import RUNTIME

FORMS = (
    ("uint8",), ("nhwc",), ("uint8", "nhwc"), ("uint8", "rgb"), ("uint8", "nhwc", "rgb"), ("any-size",),
    ("uint8", "nhwc", "rgb", "any-size"),
)  # fmt: skip


def main() -> int:
    """Print one row per form and size of picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[48, 96, 160, 320], help="of pictures of any size")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=40, help="timed runs of each file in a round")
    options = parser.parse_args()
    try:
        print_table(options.model, options.sides, rounds=options.rounds, runs=options.runs)
    except (NasError, OSError, ValueError) as error:
        print(f"{options.model} must be a plain exported file: {error}", file=sys.stderr)
        return 2
    return 0


def print_table(path: Path, sides: list[int], *, rounds: int, runs: int) -> None:
    """Write, prove and time the forms of a file.

    Raises:
        NasError: it cannot take a form, or computes something else in it.
    """
    plain = onnx.load(path)
    network = network_shape(plain)
    print(f"{path}, network {list(network)}, {RUNTIME.versions()}; {rounds} rounds of {runs} runs, one thread\n")
    print("| input | picture | file, ms | times plain | Pillow on the host, ms | pixels that differ | probabilities |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        timed, rows = [_bound(path, np.zeros((1, *network), np.uint8))], []
        for words in FORMS:
            form = requested_form(words, network)
            if form.is_plain:
                continue
            file = Path(folder) / f"{'-'.join(words)}.onnx"
            onnx.save(with_input_form(plain, form), file)
            parity = check_input_parity(path, file, form)
            for size in [(side, side) for side in sides] if form.size is None else [form.size]:
                picture = np.random.default_rng(0).integers(0, 256, (*size, form.channels), dtype=np.uint8)
                timed.append(_bound(file, form.to_input(picture.transpose(2, 0, 1)[None])))
                rows.append((words, size, parity, _host_ms(picture, form)))
        times_ms = np.array([[_time_ms(run, runs) for run in timed] for _ in range(rounds)])  # [round, file]
    print(f"| plain | {network[1]} x {network[2]} | {np.median(times_ms[:, 0]):.3f} | 1 | 0 | | |")
    ratios = np.median(times_ms / times_ms[:, :1], axis=0)
    for (words, size, parity, host_ms), file_ms, ratio in zip(
        rows, np.median(times_ms, axis=0)[1:], ratios[1:], strict=True
    ):
        print(
            f"| {','.join(words)} | {size[0]} x {size[1]} | {file_ms:.3f} | {ratio:.2f} | {host_ms:.3f} | "
            f"{parity.differing_pixels} of {parity.n_pixels:,} | {parity.max_difference:.2g} |"
        )


def _bound(path: Path, images: np.ndarray) -> Callable[[], None]:
    return RUNTIME.load(path).bound_run(images)


def _time_ms(run: Callable[[], None], runs: int) -> float:
    run()
    times_ns = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        run()
        times_ns.append(time.perf_counter_ns() - start)
    return float(np.percentile(times_ns, 10)) / 1e6


def _host_ms(picture: np.ndarray, form: InputForm) -> float:
    """Milliseconds of what the host would do for the plain file: grey, size and float32."""
    return _time_ms(lambda: host_picture(picture, form).astype(np.float32), 50)


if __name__ == "__main__":
    sys.exit(main())
