"""Single layers in their full form and factorised: ONNX Runtime on one core against what `_pays` predicts.

    python -m benchmarks.low_rank

Each net is six such layers with ReLUs between them; the time of a net without them is taken off. The 5th percentile of
200 runs by turns. "refused" is what a search would not do: no fewer multiply-accumulates, or predicted slower.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from nas.compression.low_rank.cost_check import DEFAULT_LATENCY_MODEL, is_faster_factorized, layer_kernels
from nas.compression.low_rank.factorization import CP, TUCKER, build_factorized
from nas.latency.predicted.roofline import predict_kernel_us
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.runtimes.backends.onnxruntime import RUNTIME
from nas.targets.catalog import load_target

LAYERS = ((16, 24, 3), (32, 24, 3), (64, 12, 3), (128, 12, 3), (256, 6, 3), (64, 24, 1), (128, 12, 1), (256, 6, 1))
"""Channels in and out, side of the map, side of the window."""
REPEATS, RUNS = 6, 200
CPU = replace(load_target("cpu"), latency=DEFAULT_LATENCY_MODEL)


@dataclass(frozen=True)
class Form:
    """One way to compute a layer."""

    name: str
    parts: tuple[nn.Module, ...]


def forms(channels: int, window: int) -> list[Form]:
    """The full layer first."""
    layer = nn.Conv2d(channels, channels, window, padding=window // 2)
    found = [Form("full", (layer,))]
    for word in (TUCKER, CP) if window > 1 else (TUCKER,):
        for share in (0.25, 0.5):
            parts = build_factorized(layer, rank_ratio=share, decomposition=word, channel_multiple=CPU.channel_multiple)
            if parts is not None:
                found.append(Form(f"{word if window > 1 else 'svd'} {share}", tuple(parts)))
    return found


def net_of(form: Form, channels: int) -> nn.Module:
    """Six such layers behind a stem, before a head."""
    body = [module for _ in range(REPEATS) for module in (*form.parts, nn.ReLU())] if form.parts else []
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4))
    return nn.Sequential(nn.Conv2d(1, channels, 1), *body, *head)


def measured_us(found: list[Form], channels: int, side: int) -> list[float]:
    """Microseconds of one layer in each form."""
    shape = (1, side, side)
    images = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        sessions = []
        for i, form in enumerate([Form("none", ()), *found]):
            path = Path(folder) / f"{i}.onnx"
            export_onnx(
                fold(net_of(form, channels), input_shape=shape), path, input_shape=shape, classes=tuple("abcd"),
                metadata={},
            )  # fmt: skip
            sessions.append(RUNTIME.load(path, threads=1))
        times: list[list[float]] = [[] for _ in sessions]
        for _ in range(RUNS):
            for session, seconds in zip(sessions, times, strict=True):
                begin = time.perf_counter()
                session.predict(images)
                seconds.append(time.perf_counter() - begin)
        for session in sessions:
            session.close()
    none, *rest = (float(np.percentile(seconds, 5)) * 1e6 for seconds in times)
    return [(us - none) / REPEATS for us in rest]


def main() -> None:
    """Print one line per form."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{'channels':>8} {'map':>3} {'window':>6}  {'form':<12} {'us':>6} {'predicted':>9} {'ratio':>6}  verdict")
    for channels, side, window in LAYERS:
        found = forms(channels, window)
        times = measured_us(found, channels, side)
        full = found[0].parts[0]
        for form, us in zip(found, times, strict=True):
            guess = sum(predict_kernel_us(kernel, CPU) for kernel in layer_kernels(form.parts, (side, side), CPU))
            ok = is_faster_factorized(full, form.parts, (side, side), CPU)
            verdict = "" if form.name == "full" else "pays" if ok else "refused"
            print(
                f"{channels:>8} {side:>3} {window:>6}  {form.name:<12} {us:>6.1f} {guess:>9.1f} {times[0] / us:>6.2f}  "
                f"{verdict}"
            )


if __name__ == "__main__":
    main()
