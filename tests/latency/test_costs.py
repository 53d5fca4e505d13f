"""Costs of hand-made files against closed forms, and of well-known nets against their published figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from benchmarks.published_nets import NETS
from nas.errors import ExportError
from nas.latency.costs import Costs, compute_costs
from nas.runtimes.reference_network import reference_model

Weights = dict[str, np.ndarray]


def model(nodes: Sequence[NodeProto], weights: Weights, shape: Sequence[int | str] = ("N", 8, 6, 6)) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    out = onnx.ValueInfoProto(name=nodes[-1].output[0])
    out.type.tensor_type.elem_type = TensorProto.FLOAT
    stored = [numpy_helper.from_array(w, n) for n, w in weights.items()]
    return helper.make_model(
        helper.make_graph(list(nodes), "g", [image], [out], stored), opset_imports=[helper.make_opsetid("", 17)]
    )


def node(kind: str, inputs: str, output: str, **attributes: object) -> NodeProto:
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def conv(inputs: str, output: str, k: int = 3, **attributes: object) -> NodeProto:
    return node("Conv", inputs, output, pads=[k // 2] * 4, **attributes)


def weight(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def kinds(found: Costs) -> list[str]:
    return [k.kind for k in found.kernels]


def test_a_convolution_with_bias_and_relu_is_one_kernel() -> None:
    found = compute_costs(
        model([conv("x w b", "c", strides=[2, 2]), node("Relu", "c", "y")], {"w": weight(16, 8, 3, 3), "b": weight(16)})
    )
    (k,) = found.kernels
    assert (k.kind, k.bits, k.in_channels, k.out_channels, k.groups) == ("conv", 32, 8, 16, 1)
    assert k.macs == found.macs == 16 * 3 * 3 * 8 * 9
    assert (k.input_bytes, k.output_bytes, k.weight_bytes) == (8 * 36 * 4, 16 * 9 * 4, (16 * 8 * 9 + 16) * 4)
    assert found.params == found.nonzero_params == 16 * 8 * 9 + 16


@pytest.mark.parametrize(
    ("shape", "groups", "kind", "macs"),
    [
        ((16, 8, 1, 1), 1, "pointwise", 36 * 16 * 8),
        ((8, 1, 3, 3), 8, "depthwise", 36 * 8 * 9),
        ((16, 2, 3, 3), 4, "grouped", 36 * 16 * 2 * 9),
    ],
)
def test_kinds_of_convolutions(shape: tuple[int, ...], groups: int, kind: str, macs: int) -> None:
    (k,) = compute_costs(model([conv("x w", "y", shape[-1], group=groups)], {"w": weight(*shape)})).kernels
    assert (k.kind, k.macs, k.groups) == (kind, macs, groups)


def test_a_residual_addition_joins_the_later_convolution_and_is_read_by_it() -> None:
    nodes = [
        conv("x a", "shortcut", 1),
        conv("x b", "deep"),
        node("Add", "deep shortcut", "sum"),
        node("Relu", "sum", "y"),
    ]
    first, second = compute_costs(model(nodes, {"a": weight(8, 8, 1, 1), "b": weight(8, 8, 3, 3)})).kernels
    assert (first.kind, second.kind) == ("pointwise", "conv")
    assert second.input_bytes == 2 * first.input_bytes


def test_an_intermediate_that_is_read_twice_is_not_fused() -> None:
    nodes = [conv("x w", "c"), node("Relu", "c", "r"), node("Add", "c r", "y")]
    assert kinds(compute_costs(model(nodes, {"w": weight(8, 8, 3, 3)}))) == ["conv", "elementwise"]


def test_squeeze_and_excitation_is_four_kernels() -> None:
    nodes = [
        conv("x w", "c"),
        node("GlobalAveragePool", "c", "p"),
        conv("p down", "d", 1),
        node("Relu", "d", "r"),
        conv("r up", "u", 1),
        node("HardSigmoid", "u", "s"),
        node("Mul", "c s", "y"),
    ]
    found = compute_costs(model(nodes, {"w": weight(8, 8, 3, 3), "down": weight(2, 8, 1, 1), "up": weight(8, 2, 1, 1)}))
    assert kinds(found) == ["conv", "reduce", "pointwise", "pointwise", "elementwise"]


def test_hard_swish_and_concatenation_have_kernels_of_their_own() -> None:
    nodes = [conv("x w", "c"), node("HardSwish", "c", "h"), node("Concat", "x h", "y", axis=1)]
    assert kinds(compute_costs(model(nodes, {"w": weight(8, 8, 3, 3)}))) == ["conv", "elementwise", "concat"]


def test_chains_of_elementwise_operators_are_one_kernel() -> None:
    nodes = [
        node("Sub", "x mean", "a"),
        node("Div", "a scale", "b"),
        node("Sigmoid", "b", "s"),
        node("Mul", "b s", "y"),
    ]
    found = compute_costs(model(nodes, {"mean": np.float32(127.5), "scale": np.float32(64)}))  # type: ignore[dict-item]
    assert kinds(found) == ["elementwise", "elementwise"]  # b is read twice, so it is written
    assert found.params == 0


def test_pooling_reshaping_and_linear() -> None:
    nodes = [
        node("MaxPool", "x", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "p", "f"),
        node("Gemm", "f w b", "l"),
        node("Softmax", "l", "y"),
    ]
    found = compute_costs(model(nodes, {"w": weight(72, 7), "b": weight(7)}))
    assert kinds(found) == ["pool", "linear", "reduce"]
    assert found.macs == 72 * 7
    assert found.params == 72 * 7 + 7


def quantised() -> onnx.ModelProto:
    nodes = [
        node("QuantizeLinear", "x s z", "xq"),
        node("DequantizeLinear", "xq s z", "xd"),
        node("DequantizeLinear", "wq s z", "wd"),
        conv("xd wd b", "c"),
        node("Relu", "c", "r"),
        node("QuantizeLinear", "r s z", "rq"),
        node("DequantizeLinear", "rq s z", "rd"),
        node("Sigmoid", "rd", "y"),
    ]
    kernel = np.ones((16, 8, 3, 3), np.int8)
    kernel[0] = 0
    scale, zero = np.array(0.1, np.float32), np.array(0, np.int8)
    return model(nodes, {"wq": kernel, "b": weight(16), "s": scale, "z": zero})


def test_qdq_nodes_are_no_kernels_but_make_the_arithmetic_int8() -> None:
    found = compute_costs(quantised())
    first, second = found.kernels
    assert (first.kind, first.bits) == ("conv", 8)
    assert (first.input_bytes, first.output_bytes) == (8 * 36, 16 * 36)
    assert first.weight_bytes == 16 * 8 * 9 + 16 * 4
    assert second.input_bytes == 16 * 36
    assert (found.params, found.nonzero_params) == (16 * 8 * 9 + 16, 15 * 8 * 9 + 16)


def test_fp16_tensors_make_the_arithmetic_16_bits_wide() -> None:
    nodes = [
        node("Cast", "x", "h", to=TensorProto.FLOAT16),
        conv("h w", "c"),
        node("Cast", "c", "y", to=TensorProto.FLOAT),
    ]
    (k,) = compute_costs(model(nodes, {"w": np.ones((8, 8, 3, 3), np.float16)})).kernels
    assert (k.bits, k.input_bytes, k.weight_bytes) == (16, 8 * 36 * 2, 8 * 8 * 9 * 2)


def test_a_file_is_read_like_a_model(tmp_path: Path) -> None:
    onnx.save(reference_model(), tmp_path / "m.onnx")
    assert compute_costs(tmp_path / "m.onnx") == compute_costs(reference_model())


def test_a_file_that_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xff")
    with pytest.raises(ExportError, match=r"bad\.onnx must be an ONNX file, but cannot be read as one"):
        compute_costs(tmp_path / "bad.onnx")


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ExportError, match="must be known at batch 1"):
        compute_costs(model([conv("x w", "y")], {"w": weight(8, 8, 3, 3)}, shape=("N", 8, "H", "W")))


@pytest.mark.parametrize(
    ("name", "mmacs", "mparams"),
    [  # torchvision's published figures
        ("resnet18", 1814, 11.69),
        ("resnet50", 4089, 25.56),
        ("vgg16", 15470, 138.36),
        ("mobilenetv3-large", 217, 5.48),
        ("mnasnet1_0", 314, 4.38),
        ("mnasnet0_5", 104, 2.22),
    ],
)
def test_published_nets_have_their_published_costs(name: str, mmacs: float, mparams: float) -> None:
    found = NETS[name]()
    assert found.macs / 1e6 == pytest.approx(mmacs, rel=0.01)
    assert found.params / 1e6 == pytest.approx(mparams, rel=0.01)


@pytest.mark.data
def test_mini_xception_has_its_published_parameters(shared_data: Path) -> None:
    found = compute_costs(shared_data / "baselines" / "oarriaga_mini_xception_102.onnx")
    assert found.params == 58_423
