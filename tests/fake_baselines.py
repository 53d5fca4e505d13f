"""Published baselines with known figures."""

from typing import Any

from nas.results.published_baseline import PublishedBaseline
from tests.fake_runs import some_latency, some_score


def some_baseline(accuracy: float = 0.6, latency_ms: float = 3.0, **fields: Any) -> PublishedBaseline:
    """A baseline of the target jetson with this accuracy and predicted latency."""
    name = fields.get("name", "mini")
    defaults: dict[str, Any] = {
        "name": name,
        "path": f"/nets/{name}.onnx",
        "sha256": name[0] * 64,
        "target": "jetson",
        "score": some_score(accuracy),
        "accuracy_split": "val (synthetic faces)",
        "latency": some_latency(latency_ms),
        "host": some_latency(latency_ms / 4, kind="measured", device="this host"),
        "params": 58_423,
        "macs": 10_160_000,
        "size_bytes": 243_981,
        "notes": (f"{name}.onnx gets pixels scaled to -1..1, the scaling of its highest accuracy",),
        "finished": "2026-01-01T00:00:00+00:00",
    }
    return PublishedBaseline(**(defaults | fields))
