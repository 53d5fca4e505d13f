"""Memory of hand-made graphs, by closed forms, by a slow second computation, and on exported files."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

from nas.errors import ExportError
from nas.latency.costs import compute_costs
from nas.latency.memory import KernelTensors, Memory, compute_memory
from nas.latency.onnx_graph import ResolvedGraph

IMAGE = 4 * 2 * 6 * 6
"""Bytes of the image x [N, 2, 6, 6] in float32."""


def node(kind: str, inputs: str, output: str, **attributes: object) -> NodeProto:
    return helper.make_node(kind, inputs.split(), output.split(), name=output.split()[0], **attributes)


def model_of(*nodes: NodeProto, stored: dict[str, np.ndarray] | None = None, size: int | str = 6) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, size, size])
    out = onnx.ValueInfoProto(name=nodes[-1].output[0])
    out.type.tensor_type.elem_type = TensorProto.FLOAT
    tensors = [numpy_helper.from_array(value, name) for name, value in (stored or {}).items()]
    graph = helper.make_graph(list(nodes), "g", [image], [out], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def memory_of(*nodes: NodeProto, stored: dict[str, np.ndarray] | None = None) -> Memory:
    memory = compute_costs(model_of(*nodes, stored=stored)).memory
    assert memory is not None
    return memory


def conv(inputs: str, output: str, channels: tuple[int, int] = (2, 8)) -> tuple[NodeProto, dict[str, np.ndarray]]:
    weight = {f"{output}_w": np.ones((channels[1], channels[0], 3, 3), np.float32)}
    return node("Conv", f"{inputs} {output}_w", output, pads=[1, 1, 1, 1]), weight


def test_a_convolution_with_relu_holds_the_image_and_one_output() -> None:
    first, weights = conv("x", "c")
    found = memory_of(first, node("Relu", "c", "y"), stored=weights)
    assert found == Memory(weight_bytes=4 * 8 * 2 * 9, activation_bytes=IMAGE + 4 * IMAGE, peak_kernel="c")
    assert found.total_bytes == 4 * 8 * 2 * 9 + 5 * IMAGE


def test_what_nothing_reads_any_more_is_free_again() -> None:
    (one, a), (two, b), (three, c) = conv("x", "c1"), conv("c1", "c2", (8, 2)), conv("c2", "c3")
    found = memory_of(one, two, three, stored=a | b | c)
    assert found.activation_bytes == IMAGE + 4 * IMAGE + IMAGE  # at c2 and c3: never both wide maps
    assert found.peak_kernel == "c2"


def test_a_residual_is_alive_until_it_is_added() -> None:
    (one, a), (two, b), (three, c) = conv("x", "c1"), conv("c1", "c2", (8, 8)), conv("c2", "c3", (8, 8))
    plain = memory_of(one, two, three, stored=a | b | c)
    residual = memory_of(one, two, three, node("Add", "c1 c3", "y"), stored=a | b | c)
    assert plain.activation_bytes == IMAGE + 2 * 4 * IMAGE
    assert residual.activation_bytes == IMAGE + 3 * 4 * IMAGE
    assert residual.peak_kernel == "c3"  # which the addition is fused into


def test_an_elementwise_node_overwrites_what_only_it_reads_but_never_the_image() -> None:
    pool = node("MaxPool", "x", "p", kernel_shape=[1, 1])
    assert memory_of(pool, node("Sigmoid", "p", "y")).activation_bytes == 2 * IMAGE
    gate = node("Sigmoid", "p", "s"), node("GlobalAveragePool", "s", "g"), node("Mul", "p g", "y")
    assert memory_of(pool, *gate).activation_bytes == 3 * IMAGE + 2 * 4  # p is read once more, so s needs room
    assert memory_of(node("Sigmoid", "x", "y")).activation_bytes == 2 * IMAGE


def test_a_concatenation_holds_its_inputs_and_its_output() -> None:
    pools = node("MaxPool", "x", "p", kernel_shape=[1, 1]), node("AveragePool", "x", "q", kernel_shape=[1, 1])
    found = memory_of(*pools, node("Concat", "p q", "y", axis=1))
    assert (found.activation_bytes, found.peak_kernel) == (IMAGE * (1 + 2 + 2), "y")


def test_views_take_nothing_and_quantised_tensors_a_byte_an_element() -> None:
    stored = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}
    quantised = node("QuantizeLinear", "p s z", "q"), node("DequantizeLinear", "q s z", "d")
    pool = node("MaxPool", "x", "p", kernel_shape=[1, 1])
    last = node("GlobalAveragePool", "d", "g"), node("Flatten", "g", "y")
    found = memory_of(pool, *quantised, *last, stored=stored)
    assert found.activation_bytes == IMAGE + IMAGE // 4 + 4 * 2
    assert found.weight_bytes == 4 + 1


def test_an_output_lives_to_the_end_and_an_unread_mask_is_not_there() -> None:
    model = model_of(
        node("MaxPool", "x", "early", kernel_shape=[1, 1]),
        node("Dropout", "early", "d mask"),
        node("MaxPool", "d", "m", kernel_shape=[1, 1]),
        node("MaxPool", "m", "y", kernel_shape=[1, 1]),
    )
    plain = compute_costs(model).memory
    model.graph.output.extend([helper.make_tensor_value_info("early", TensorProto.FLOAT, ["N", 2, 6, 6])])
    held = compute_costs(model).memory
    assert plain is not None
    assert held is not None
    assert (plain.activation_bytes, held.activation_bytes) == (3 * IMAGE, 4 * IMAGE)


def test_an_unknown_size_is_refused() -> None:
    graph = ResolvedGraph(model_of(node("Relu", "x", "y"), size="H"))
    with pytest.raises(ExportError, match="must be known at batch 1, but 'x' has none"):
        compute_memory(graph, [KernelTensors(name="y", operators=("Relu",), reads=("x",), writes=("y",))])


@given(st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=3), min_size=1, max_size=7))
def test_the_peak_is_that_of_a_slow_count_of_live_tensors(picks: list[list[int]]) -> None:
    """Sums of random earlier tensors through pools, which nothing fuses and nothing overwrites."""
    names, nodes = ["x"], []
    for i, pick in enumerate(picks):
        sources = list(dict.fromkeys(names[p % len(names)] for p in pick))
        nodes.append(node("Concat", " ".join(sources), f"t{i}", axis=1))
        names.append(f"t{i}")
    sizes = {"x": IMAGE}
    for each in nodes:
        sizes[each.output[0]] = sum(sizes[name] for name in each.input)
    peak = IMAGE
    for at in range(len(nodes)):
        readers = {i for later in nodes[at:] for i in later.input} | {"x", names[-1]}
        written = {each.output[0] for each in nodes[: at + 1]} | {"x"}
        peak = max(peak, sum(sizes[name] for name in (written & readers) | {nodes[at].output[0]}))
    assert memory_of(*nodes).activation_bytes == peak


def test_int8_takes_less_of_the_same_network() -> None:
    folder = Path(__file__).parents[2] / "examples/fer2013-front/resnet-56k"
    whole, small = (compute_costs(folder / name).memory for name in ("model.onnx", "model-int8.onnx"))
    assert whole is not None
    assert small is not None
    image = 4 * 48 * 48
    # Three maps of 16 x 24 x 24 are alive in the first block: a byte an element in place of four.
    assert whole.activation_bytes - image == 3 * 16 * 24 * 24 * 4
    assert small.activation_bytes - image == 3 * 16 * 24 * 24
