"""2:4 zeros: found in files of each number format, and handed to trtexec, to the builder and to ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, TensorProto, helper, numpy_helper, save
from torch import nn

from nas.compression.pruning.magnitude_pruning import ParameterGroup, sparsify
from nas.runtimes.tensorrt.sparsity import has_2_4_weights
from nas.runtimes.tensorrt.trtexec import (
    SPARSITY_NOTE,
    TrtexecInfo,
    build_and_time_command,
    build_notes,
    read_model_format,
)

PATTERN = np.array([0.0, 3.0, 0.0, -1.0], np.float32)


def sparse(shape: tuple[int, ...]) -> np.ndarray:
    """Weights [out, in, ...] with the pattern along the inputs."""
    repeated = np.tile(PATTERN, shape[1] // 4).reshape(1, shape[1], *[1] * (len(shape) - 2))
    return np.ascontiguousarray(np.broadcast_to(repeated, shape)).astype(np.float32)


def graph_of(weight: np.ndarray, op: str = "Conv", *, through: str = "", **attributes: int) -> GraphProto:
    """One layer whose weight is stored as it is, or goes through a node first."""
    nodes, name = [], "w"
    if through:
        stored = {"DequantizeLinear": ["w", "scale", "zero"], "Cast": ["w"]}[through]
        extra = {"to": TensorProto.FLOAT} if through == "Cast" else {}
        nodes, name = [helper.make_node(through, stored, ["w2"], **extra)], "w2"
    nodes.append(helper.make_node(op, ["x", name], ["y"], **attributes))
    tensors = {"w": weight, "scale": np.float32(0.1), "zero": np.int8(0)}
    size = [1, weight.shape[1], 4, 4] if op == "Conv" else [1, 8]
    return helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )  # fmt: skip


def dense() -> np.ndarray:
    return np.ones((4, 8, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("graph", "is_found"),
    [
        (graph_of(sparse((4, 8, 3, 3))), True),
        (graph_of(dense()), False),
        (graph_of(np.zeros((4, 8, 3, 3), np.float32)), False),  # all zero is no pattern
        (graph_of(sparse((4, 8, 3, 3)).swapaxes(0, 1).copy()), False),  # along the outputs
        (graph_of(sparse((4, 8, 3, 3))[:, :6].copy()), False),  # no whole groups
        (graph_of(sparse((8, 8, 3, 3)), group=2), False),
        (graph_of(sparse((4, 8)), "Gemm", transB=1), True),
        (graph_of(sparse((4, 8)), "Gemm"), False),
        (graph_of(sparse((4, 8)).T.copy(), "MatMul"), True),
        (graph_of(sparse((4, 8, 1, 1)).astype(np.int8), through="DequantizeLinear"), True),
        (graph_of(sparse((4, 8, 1, 1)).astype(np.float16), through="Cast"), True),
    ],
)
def test_the_pattern_is_along_the_input_channels_of_whole_layers(graph: GraphProto, is_found: bool) -> None:
    assert has_2_4_weights(graph) == is_found


def test_what_the_compressor_makes_is_found() -> None:
    layer = nn.Conv2d(16, 8, 3)
    assert not has_2_4_weights(graph_of(layer.weight.detach().numpy()))
    sparsify(ParameterGroup(weights=(layer.weight,), sparsity=0.5, is_2_4=True), 0.5)
    assert has_2_4_weights(graph_of(layer.weight.detach().numpy()))


@pytest.mark.parametrize(
    ("version", "weight"),
    [((8, 2, 0), sparse((4, 8, 3, 3))), ((11, 4, 0), sparse((4, 8, 3, 3))), ((10, 3, 0), dense())],
)
def test_trtexec_may_use_sparse_kernels_where_the_file_has_the_zeros(
    tmp_path: Path, version: tuple[int, int, int], weight: np.ndarray
) -> None:
    save(helper.make_model(graph_of(weight), opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    tool, form = TrtexecInfo(path="/t", version=version), read_model_format(tmp_path / "m.onnx")
    names: Any = dict.fromkeys(("model_file", "engine_file", "times_file", "timing_cache_file"), "f")
    command = build_and_time_command(tool, form, duration_s=1, **names)
    is_sparse = bool((weight == 0).any())
    assert ("--sparsity=enable" in command) == is_sparse
    assert (SPARSITY_NOTE in build_notes(tool, form)) == is_sparse


def test_weights_of_a_damaged_file_are_passed_over() -> None:
    graph = graph_of(sparse((4, 8, 3, 3)))
    assert has_2_4_weights(graph)
    for data_type, raw in ((TensorProto.UNDEFINED, b""), (TensorProto.FLOAT, b"123")):
        del graph.initializer[:]
        graph.initializer.append(TensorProto(name="w", dims=(4, 8, 3, 3), data_type=data_type, raw_data=raw))
        assert not has_2_4_weights(graph)


def test_nodes_that_feed_each_other_end() -> None:
    graph = graph_of(sparse((4, 8, 3, 3)), through="Cast")
    del graph.initializer[:]
    graph.node[0].input[0] = graph.node[0].output[0]
    assert not has_2_4_weights(graph)
