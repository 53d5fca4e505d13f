"""The latencies of a candidate's files: what is disturbed is timed again, and the calmest attempt counts."""

from pathlib import Path
from typing import Any

import pytest

import nas.stopwatch
from nas import registry
from nas.measure import Measurement
from nas.records import RunFolder
from nas.stopwatch import Stopwatch
from nas.targets import target

FILES = [Path("net.onnx"), Path("twin.onnx")]


def a_stopwatch(place: Path) -> Stopwatch:
    return Stopwatch(
        profile=target("cpu"), host=target("cpu"), runtime=registry.load("runtime", "onnxruntime"), board=None,
        input_shape=(1, 48, 48), energy=False, folder=RunFolder(place), watch=lambda _: None,
    )  # fmt: skip


def timed(ms: float, drift: float) -> Measurement:
    return Measurement(kind="measured", device="d", runtime="r", latency_ms=ms, low_ms=ms, high_ms=ms, drift=drift)


@pytest.mark.parametrize(
    ("drifts", "attempts", "chosen", "made"),
    [([0.01], 3, 0, 1), ([0.2, -0.02], 3, 1, 2), ([0.3, -0.1, 0.2, 0.0], 3, 1, 3), ([0.5, 0.0], 1, 0, 1)],
)
def test_disturbed_files_are_timed_again_and_the_calmest_attempt_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drifts: list[float], attempts: int, chosen: int, made: int
) -> None:
    calls: list[Any] = []

    def measured(paths: list[Path], *_: Any, **__: Any) -> list[Measurement]:
        calls.append(paths)
        return [timed(len(calls), drifts[len(calls) - 1]) for _ in paths]

    monkeypatch.setattr(nas.stopwatch, "measure_interleaved", measured)
    found = a_stopwatch(tmp_path).here(FILES, 20, attempts=attempts)
    assert [m.latency_ms for m in found] == [chosen + 1] * 2
    assert calls == [FILES] * made
