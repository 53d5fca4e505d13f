"""Untrained candidates: their files are deleted, and no baseline is built that is not needed."""

from collections.abc import Callable
from typing import Any

import pytest

import nas.evaluation.untrained
import nas.training.model_builder
from nas.errors import ExportError
from nas.evaluation.evaluator import Evaluator
from nas.runtimes.backends import onnxruntime_cuda
from nas.runtimes.backends.onnxruntime import OrtCpuRuntime
from tests.tiny_evaluator import Make, small


def test_untrained_files_are_deleted(make: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = make()
    untrained = evaluator.evaluate_untrained(small())
    assert untrained.size_bytes > untrained.costs.params > 0
    assert untrained.host_latency is None

    def fails(*_: Any, **__: Any) -> None:
        raise ExportError("no")

    monkeypatch.setattr(nas.evaluation.untrained, "compute_costs", fails)
    with pytest.raises(ExportError, match="no"):
        evaluator.evaluate_untrained(small())
    assert list((evaluator.folder.path / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "built"), [({}, 2), ({"max_size": 1e3}, 1), ({"max_memory": 1e3}, 1), ({"max_latency": 1e-4}, 1)]
)
def test_the_baseline_of_an_infeasible_candidate_is_not_built(
    make: Make, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], built: int
) -> None:
    evaluator, graphs = make(target="cpu", **limits), []
    compress_graph = nas.training.model_builder.ModelBuilder.compress_graph

    def counted(*arguments: Any, **more: Any) -> Any:
        graphs.append(more)
        return compress_graph(*arguments, **more)

    monkeypatch.setattr(nas.training.model_builder.ModelBuilder, "compress_graph", counted)
    untrained = evaluator.evaluate_untrained(small(bits_of_stage1=8))
    assert [more["shapes_only"] for more in graphs] == [True] * built
    assert (untrained.int8_speedup is not None) == (built == 2)


def test_a_target_with_another_runtime_on_this_machine_is_timed_by_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PlayedGpu(OrtCpuRuntime):
        name = "onnxruntime_cuda"

    monkeypatch.setattr(onnxruntime_cuda, "RUNTIME", PlayedGpu())
    evaluator = make(target="cuda-onnxruntime")
    untrained = evaluator.evaluate_untrained(small(bits_of_stage1=16))
    assert (untrained.latency.runtime, untrained.latency.kind) == ("onnxruntime_cuda", "measured")
    assert untrained.latency.device == "this machine's NVIDIA GPU, ONNX Runtime with CUDA"
    assert untrained.host_latency == untrained.latency
    assert evaluator.host_runtime.name == "onnxruntime", "files are scored on the CPU all the same"
    bits = {gene.name: gene.options for gene in evaluator.compression.choices(("stage1",))}["bits.stage1"]
    assert bits == (16, 32), "FP16 is searched, and INT8 is not, which gains nothing there"
