"""Explanations and memory of files through the Python API."""

from pathlib import Path
from typing import Any

import pytest

from nas.api import explain, explanation, read_memories
from nas.errors import ConfigError, MeasureError
from nas.latency.memory import Memory
from nas.runtimes.base import DeviceTiming
from nas.runtimes.reference_network import reference_path


def test_this_machine_is_profiled_and_a_prediction_comes_first() -> None:
    ((predicted, profiled),) = explain([reference_path()], target="jetson")  # type: ignore[misc]
    assert "predicted for Jetson Orin Nano" in predicted.title
    assert "by ONNX Runtime on this machine's CPU" in profiled.title
    assert profiled.total_ms > 0


def test_a_device_that_cannot_tell_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Played:
        name = "played"

        def time_models(self, models: list[Path], *_: Any, **options: Any) -> list[Any]:
            assert options["with_breakdown"]
            failed = MeasureError("it broke")
            return [failed, DeviceTiming(times_ms=None, device="d", drift=0.0)]  # type: ignore[arg-type]

    monkeypatch.setattr(explanation, "device_runtime", lambda _: Played())
    broken, silent = explain([reference_path(), reference_path()])
    assert str(broken) == "it broke"
    assert str(silent) == "played cannot tell where its time goes; measure without --explain"


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="but there is none"):
        explain(["nowhere.onnx"])


def test_memories_are_read_or_told_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    found = read_memories([reference_path(), bad])
    assert isinstance(found[str(reference_path())], Memory)
    assert "must be an ONNX file" in str(found[str(bad)])
    tried: list[Path] = []
    monkeypatch.setattr(explanation, "device_runtime", lambda _: object())
    monkeypatch.setattr(explanation, "check_in_child", tried.append)
    read_memories([reference_path()])
    assert tried == [reference_path()]
