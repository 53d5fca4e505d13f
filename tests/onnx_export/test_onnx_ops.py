"""Every leaf module against ONNX Runtime, one by one, without a softmax that would hide differences."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor, nn

from nas.errors import ExportError
from nas.onnx_export.all_ops import emit
from nas.onnx_export.functional import Affine, Subtract
from nas.onnx_export.graph_builder import IR_VERSION, OPSET, GraphBuilder
from nas.onnx_export.onnx_ops import exact_resize_scale
from nas.onnx_export.tensor_ops import (
    AppendAxes,
    Binary,
    ChannelChunk,
    ConcatAxis,
    DotProductAttention,
    Pad,
    Permute,
    Reduce,
    Reshape,
    Roll,
    Slice,
    Unary,
)  # fmt: skip
from search_spaces._leaf import Add, Concat, Normalise, Scale, SwapAxes

torch.manual_seed(0)


def norm(width: int) -> nn.BatchNorm2d:
    module = nn.BatchNorm2d(width, eps=1e-3)
    for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.5, 2)
    return module


def away_from_one(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.5, 2)
    return module


ONE_INPUT: list[nn.Module] = [
    nn.Conv2d(4, 6, 3),
    nn.Conv2d(4, 6, (3, 1), stride=(2, 1), padding=(1, 0), bias=False),
    nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
    nn.Conv2d(4, 8, 5, stride=2, padding=2, groups=2),
    nn.Conv2d(4, 6, (3, 5), dilation=2, padding="same"),
    nn.Conv2d(4, 6, 3, padding="valid"),
    norm(4),
    nn.BatchNorm2d(4, affine=False),
    nn.ReLU(),
    nn.ReLU6(),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.Sigmoid(),
    nn.SiLU(),
    nn.GELU(),
    nn.Softmax(dim=1),
    nn.Softmax(dim=-1),
    nn.Softmax(dim=2),
    nn.LogSoftmax(dim=-1),
    nn.MaxPool2d(3, 2, padding=1),
    nn.MaxPool2d((2, 3), stride=1, dilation=2),
    nn.AvgPool2d(3, 1, padding=1),
    nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((1, 1)),
    nn.Flatten(),
    nn.Identity(),
    nn.Dropout(0.5),
    nn.Upsample((13, 5), mode="bilinear", align_corners=False),
    nn.Upsample(size=40, mode="bilinear"),
    nn.Upsample(scale_factor=2),
    nn.Upsample(scale_factor=(1.5, 3)),
    nn.Upsample(size=(13, 5)),
    nn.Linear(7, 5),
    nn.Linear(7, 5, bias=False),
    Affine(0.25, 3.0),
    Affine((0.25, 1.0, 2.0, 3.0), 3.0),
    Affine(0.25, 0.0),
    Affine(1.0, 3.0),
    Subtract(127.5),
    Subtract((1.0, 2.0, 3.0, 4.0)),
    SwapAxes(),
    nn.LeakyReLU(0.1),
    nn.RReLU(),
    nn.ELU(0.7),
    nn.SELU(),
    nn.CELU(),
    nn.CELU(0.5),
    nn.Mish(),
    nn.Softplus(),
    nn.Softplus(beta=2),
    nn.Hardtanh(-0.5, 2),
    nn.Tanh(),
    nn.LogSigmoid(),
    nn.Softsign(),
    nn.GELU("tanh"),
    nn.PReLU(),
    nn.PReLU(4, init=0.4),
    away_from_one(nn.GroupNorm(2, 4)),
    nn.GroupNorm(4, 4, affine=False),
    away_from_one(nn.LayerNorm((9, 7))),
    nn.LayerNorm(7, elementwise_affine=False),
    nn.InstanceNorm2d(4),
    away_from_one(nn.InstanceNorm2d(4, affine=True)),
    nn.LocalResponseNorm(3, alpha=0.5, k=2.0),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.MaxPool2d((2, 3), (3, 2), padding=(0, 1), ceil_mode=True),
    nn.AvgPool2d(2, 2, ceil_mode=True),
    nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
    nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
    nn.AdaptiveAvgPool2d(3),
    nn.AdaptiveAvgPool2d((2, 7)),
    nn.AdaptiveAvgPool2d((None, 1)),
    nn.AdaptiveAvgPool2d(12),
    nn.AdaptiveMaxPool2d(1),
    nn.AdaptiveMaxPool2d(3),
    nn.AdaptiveMaxPool2d((4, 5)),
    nn.ZeroPad2d((0, 1, 2, 3)),
    Pad((1, 2, 0, 1), value=0.5),
    Pad((1, 2, 0, 1), "reflect"),
    Pad((1, 1, 2, 2), "replicate"),
    nn.ChannelShuffle(2),
    nn.ConvTranspose2d(4, 6, 2, 2),
    nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, groups=2, bias=False),
    nn.Dropout3d(),
    nn.AlphaDropout(),
    nn.FeatureAlphaDropout(),
    *(
        Reduce(op, axes, keepdim=keep)
        for op, axes, keep in (
            ("ReduceMean", (1,), True),
            ("ReduceMax", (2, 3), False),
            ("ReduceSum", (3,), False),
            ("ReduceMin", (1, 2), True),
            ("ReduceL2", (2, 3), True),
        )
    ),
    Reshape((-1, 2, 2, 63)),
    Permute((0, 2, 3, 1)),
    Slice({1: (1, 3, 1), 3: (0, 7, 2)}),
    ChannelChunk(2, 1),
    AppendAxes(2),
    Roll({2: 4}),
    Roll({1: 1, 2: 0, 3: 5}),
    Unary("Abs"),
    Unary("Exp"),
    Unary("Neg"),
    nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3, bias=False)),
]


def run(module: nn.Module, *inputs: Tensor, half: bool = False) -> Tensor:
    rank = module.eval()(*inputs).ndim
    writer, names = GraphBuilder(), [f"x{i}" for i in range(len(inputs))]
    writer.shapes.update({name: tuple(x.shape) for name, x in zip(names, inputs, strict=True)})
    if half:
        writer.float16_values.update(names)
    output = emit(module.eval(), writer, "layer", names)
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    writer.nodes.append(helper.make_node("Identity", [output], ["y"]))
    graph = helper.make_graph(
        writer.nodes,
        "layer",
        [helper.make_tensor_value_info(n, kind, list(x.shape)) for n, x in zip(names, inputs, strict=True)],
        [helper.make_tensor_value_info("y", kind, [None] * rank)],
        list(writer.initializers.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {n: (x.half() if half else x).numpy() for n, x in zip(names, inputs, strict=True)}
    return torch.from_numpy(session.run(None, feeds)[0])


@pytest.mark.parametrize("module", ONE_INPUT, ids=str)
def test_a_layer_computes_in_onnx_what_it_computes_in_torch(module: nn.Module) -> None:
    x = 4 * torch.randn(3, 4, 9, 7)
    with torch.no_grad():
        expected = module.eval()(x)
    torch.testing.assert_close(run(module, x), expected, rtol=1e-5, atol=1e-5)


def test_a_convolution_along_one_axis() -> None:
    for module in (nn.Conv1d(4, 2, 3, stride=2, padding=1), nn.Conv1d(4, 4, 5, groups=4, bias=False)):
        x = torch.randn(2, 4, 11)
        with torch.no_grad():
            torch.testing.assert_close(run(module, x), module(x), rtol=1e-5, atol=1e-5)


TWO_INPUTS = [Add(), Concat(), Scale(), ConcatAxis(3), *(Binary(op) for op in ("Sub", "Div", "Max", "Min", "MatMul"))]


@pytest.mark.parametrize("module", TWO_INPUTS, ids=str)
def test_layers_of_two_inputs(module: nn.Module) -> None:
    a, b = torch.randn(2, 4, 5, 5), torch.randn(2, 4, *((1, 1) if isinstance(module, Scale) else (5, 5)))
    torch.testing.assert_close(run(module, a, b), module(a, b))


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("mask_shape", [None, (1, 2, 5, 6), (5, 6)])
def test_attention(scale: float | None, mask_shape: tuple[int, ...] | None) -> None:
    shapes = [(3, 2, 5, 4), (3, 2, 6, 4), (3, 2, 6, 7), *([mask_shape] if mask_shape else [])]
    inputs = [torch.randn(shape) for shape in shapes]
    q, k, v, *mask = inputs
    scores = q @ k.mT * (scale or 4**-0.5) + sum(mask)
    expected = scores.exp() / scores.exp().sum(-1, keepdim=True) @ v
    module = DotProductAttention(scale)
    torch.testing.assert_close(module(*inputs), expected)
    torch.testing.assert_close(run(module, *inputs), expected)


@pytest.mark.parametrize("module", [nn.Conv2d(4, 6, 3), nn.GELU(), Affine(2.0, 1.0), norm(4)], ids=str)
def test_constants_have_the_float16_type_of_their_input(module: nn.Module) -> None:
    x = torch.randn(2, 4, 9, 7)
    with torch.no_grad():
        expected = module.eval()(x)
    got = run(module, x, half=True)
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.FractionalMaxPool2d(2, output_size=3), "'layer' is a FractionalMaxPool2d; register one"),
        (Normalise(), "'layer' is a Normalise"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "must pad with zeros, but 'layer' pads with 'reflect'"),
        (nn.Conv1d(4, 4, 3, padding="same"), "must pad with a fixed number of zeros"),
        (nn.BatchNorm2d(4, track_running_stats=False), "must keep running statistics"),
        (nn.LocalResponseNorm(4), "must have an odd size"),
        (nn.MaxPool2d(2, return_indices=True), "must return values only"),
        (Pad((1, 1), "circular"), "must be constant, reflect or replicate"),
        (nn.AvgPool2d(2, divisor_override=3), "has a divisor_override"),
        (nn.Flatten(2), "must keep the batch axis only, but 'layer' starts at axis 2"),
        (nn.Upsample(size=(8, 8), mode="bicubic"), "must be nearest or bilinear"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "must be nearest or bilinear to a size"),
    ],
    ids=str,
)
def test_layers_without_an_onnx_form_are_rejected_by_name(module: nn.Module, message: str) -> None:
    writer = GraphBuilder()
    writer.shapes["x"] = (1, 4, 9, 7)
    with pytest.raises(ExportError, match=message):
        emit(module, writer, "layer", ["x"])


@given(have=st.integers(1, 300), want=st.integers(1, 300))
def test_a_resize_scale_gives_the_requested_size(have: int, want: int) -> None:
    scale = exact_resize_scale(have, want)
    assert np.floor(np.float32(have) * scale) == want, "as ONNX Runtime's kernels multiply"
    assert np.floor(have * float(scale)) == want, "as ONNX's shape inference and reference evaluator multiply"
    assert abs(float(scale) - want / have) <= 1e-6 * want / have


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_a_softmax_without_an_axis_takes_the_axis_of_torch() -> None:
    x, module = torch.randn(2, 4, 5, 6), nn.Softmax()
    torch.testing.assert_close(run(module, x), module(x))
    with pytest.raises(ExportError, match="must keep the images apart"):
        run(module, torch.randn(2, 4, 5))
