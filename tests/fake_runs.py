"""Run folders made by hand: records with known figures, without any training."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas.candidate import Candidate
from nas.config import make_config
from nas.latency.latency import Latency
from nas.metrics import Score, score_from_confusion
from nas.results.record import Record
from nas.results.run_folder import RunFolder

CLASSES = ("angry", "happy", "sad")


def some_score(accuracy: float, *, n: int = 300) -> Score:
    """A score with this accuracy (to 1/n), whose errors are all in the neighbouring class."""
    counts = np.zeros((3, 3), dtype=np.int64)
    for k in range(3):
        right = round(accuracy * n * (k + 1) / 3) - round(accuracy * n * k / 3)
        counts[k, k], counts[k, (k + 1) % 3] = right, n // 3 - right
    return score_from_confusion(counts, CLASSES)


def some_latency(ms: float, *, kind: str = "predicted", device: str = "Jetson Orin Nano") -> Latency:
    """A latency; the interval of a predicted one is wide."""
    measured = kind == "measured"
    return Latency(
        kind=kind,
        device=device,
        runtime="onnxruntime" if measured else "tensorrt",
        latency_ms=ms,
        low_ms=ms * (0.98 if measured else 0.6),
        high_ms=ms * (1.03 if measured else 1.5),
        p5_ms=ms * 0.97 if measured else None,
        p99_ms=ms * 1.2 if measured else None,
        runs=300 if measured else 0,
        drift=0.01 if measured else None,
        versions={"onnxruntime": "1.31.0"} if measured else {"roofline": "1"},
    )


def some_record(trial: int, accuracy: float | None, latency_ms: float | None, **fields: Any) -> Record:
    """A record; its key follows from the trial number, or from that of the trial `key_of`."""
    of = fields.pop("key_of", trial)
    candidate = Candidate(
        space="plain",
        architecture={"depth": of, "input": 48},
        widths={"stage1": 16, "stage2": 32},
        pruned={"stage1": 16, "stage2": 32 if of % 2 else 16},
        bits={"stem": 32, "stage1": 32, "stage2": 8 if of % 3 == 0 else 32, "head": 32},
    )
    name = f"models/{of:04d}-{fields.get('phase', 'search')}.onnx"
    defaults: dict[str, Any] = {
        "status": "complete",
        "score": None if accuracy is None else some_score(accuracy),
        "latency": None if latency_ms is None else some_latency(latency_ms),
        "host": None if latency_ms is None else some_latency(latency_ms / 4, kind="measured", device="this host"),
        "accuracy_split": "val (synthetic faces)",
        "size_bytes": 1000 * (of + 1),
        "params": 900 * (of + 1),
        "nonzero_params": 800 * (of + 1),
        "macs": 1_000_000 * (of + 1),
        "epochs": 3.0,
        "rung": 3,
        "parity": {"max_difference": 1e-6, "agreement": 1.0, "n": 256},
        "model": name,
        "sha256": hashlib.sha256(name.encode()).hexdigest(),
        "seconds": {"build": 0.1, "measure": 0.5, "train": 20.0},
        "finished": f"2026-01-01T{max(trial, 0) // 60:02d}:{max(trial, 0) % 60:02d}:00+00:00",
    }
    return Record(trial=trial, key=candidate.key, candidate=candidate, **(defaults | fields))


def a_search() -> list[Record]:
    """Search front: trials 0, 1, 2 and 5; trial 3 is dominated, 4 and 6 are infeasible, 7 failed.

    Verified are 0, 1, 2 and 5; after full training 2 dominates 5, which is dropped.
    """
    return [
        some_record(0, 0.40, 1.0),
        some_record(1, 0.55, 2.0),
        some_record(2, 0.60, 4.0),
        some_record(3, 0.50, 3.0),
        some_record(4, None, 9.0, status="infeasible", reason="max_latency exceeded by 80.0%", model="", score=None,
                    violations={"max_latency": 0.8}),
        some_record(5, 0.70, 4.8),
        some_record(6, 0.20, 0.5, violations={"max_latency": -0.9, "min_accuracy": 0.1}, status="infeasible"),
        some_record(7, None, None, status="failed", reason="loss is not finite", model=""),
        some_record(0, 0.50, 1.0, phase="verified", epochs=23.0),
        some_record(1, 0.65, 2.0, phase="verified", epochs=23.0),
        some_record(2, 0.80, 4.0, phase="verified", epochs=23.0),
        some_record(5, 0.78, 4.8, phase="verified", epochs=23.0),
    ]  # fmt: skip


def a_run(runs: Path, *, records: list[Record] | None = None, **fields: Any) -> RunFolder:
    """A run folder with these records (default: `a_search()`) below `runs`."""
    config = make_config(**({"target": "jetson", "space": "plain", "runs": runs, "max_latency": "5ms"} | fields))
    folder = RunFolder.open(config)
    for record in a_search() if records is None else records:
        folder.append(record)
    return folder


def a_model(folder: RunFolder, name: str) -> dict[str, Any]:
    """Write an ONNX file of one linear layer into a run, and return the fields that its record must have."""
    weights = np.linspace(-1, 1, 64 * 3, dtype=np.float32).reshape(64, 3) / 255
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content = model.SerializeToString()
    onnx.checker.check_model(model)
    folder.write(name, content)
    return {"model": name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def expected_probabilities(image: Any) -> Any:
    """Probabilities [N, 3] of the file of `a_model` for images [N, 1, 8, 8], by numpy in double precision."""
    weights = np.linspace(-1, 1, 64 * 3, dtype=np.float32).reshape(64, 3).astype(np.float64) / 255
    logits = image.reshape(len(image), -1).astype(np.float64) @ weights
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
