"""Breakdown of a prediction: its parts are those that the prediction adds up."""

from pathlib import Path

import pytest

from nas.errors import ConfigError
from nas.latency.costs import compute_costs
from nas.latency.predicted.breakdown import explain_prediction
from nas.latency.predicted.predict import predict_latency
from nas.targets.catalog import load_target

MODEL = Path(__file__).parents[3] / "examples/fer2013-front/resnet-56k/model.onnx"


def test_the_parts_add_up_to_the_prediction() -> None:
    costs, profile = compute_costs(MODEL), load_target("jetson")
    found = explain_prediction("net", costs, profile)
    assert found.total_ms == pytest.approx(predict_latency(costs, profile).latency_ms)
    assert found.parts[-1].ms == pytest.approx(profile.latency.fixed_us / 1e3)  # type: ignore[union-attr]
    kinds = {kernel.kind for kernel in costs.kernels}
    assert {part.name for part in found.parts[:-1]} == {f"{kind} kernels" for kind in kinds}
    assert f"{len(costs.kernels)} kernels cost at least 16 us each" in found.remarks[0]
    assert "power mode 15W, GPU at 625 MHz" in found.remarks[1]


def test_a_device_without_a_latency_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a latency model"):
        explain_prediction("net", compute_costs(MODEL), load_target("cpu"))
