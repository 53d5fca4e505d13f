"""Single layers in full and factorised: latency in ONNX Runtime on one core against the prediction.

    python -m benchmarks.low_rank

Each net holds six such layers with ReLUs between them; the time of a net without them is subtracted. Times are the 5th
percentile of 200 runs, taken in turn. "refused" marks a factorisation that a search would not apply, because it has no
fewer multiply-accumulates or is predicted to be slower.
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
"""Channels in and out, side of the feature map, side of the kernel window."""
REPEATS, RUNS = 6, 200
CPU = replace(load_target("cpu"), latency=DEFAULT_LATENCY_MODEL)


@dataclass(frozen=True)
class Form:
    """One way to compute a layer."""

    name: str
    parts: tuple[nn.Module, ...]


def forms(channels: int, window: int) -> list[Form]:
    """The full layer first, then its factorisations."""
    layer = nn.Conv2d(channels, channels, window, padding=window // 2)
    variants = [Form("full", (layer,))]
    for decomposition in (TUCKER, CP) if window > 1 else (TUCKER,):
        for share in (0.25, 0.5):
            parts = build_factorized(
                layer, rank_ratio=share, decomposition=decomposition, channel_multiple=CPU.channel_multiple
            )
            if parts is not None:
                variants.append(Form(f"{decomposition if window > 1 else 'svd'} {share}", tuple(parts)))
    return variants


def net_of(form: Form, channels: int) -> nn.Module:
    """Six such layers between a stem and a head."""
    body = [module for _ in range(REPEATS) for module in (*form.parts, nn.ReLU())] if form.parts else []
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4))
    return nn.Sequential(nn.Conv2d(1, channels, 1), *body, *head)


def measured_us(variants: list[Form], channels: int, side: int) -> list[float]:
    """Microseconds of one layer in each form."""
    shape = (1, side, side)
    images = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        sessions = []
        for i, form in enumerate([Form("none", ()), *variants]):
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
        variants = forms(channels, window)
        times = measured_us(variants, channels, side)
        full = variants[0].parts[0]
        for form, us in zip(variants, times, strict=True):
            predicted_us = sum(
                predict_kernel_us(kernel, CPU) for kernel in layer_kernels(form.parts, (side, side), CPU)
            )
            is_faster = is_faster_factorized(full, form.parts, (side, side), CPU)
            verdict = "" if form.name == "full" else "pays" if is_faster else "refused"
            print(
                f"{channels:>8} {side:>3} {window:>6}  {form.name:<12} {us:>6.1f} {predicted_us:>9.1f} "
                f"{times[0] / us:>6.2f}  {verdict}"
            )


if __name__ == "__main__":
    main()
