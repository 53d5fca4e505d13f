"""`nas.quantize` of foreign ONNX files: what passes computes the same, what cannot is refused in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from typer.testing import CliRunner

import nas
from nas.cli.main import app
from nas.compression.quantization.calibration import CALIBRATION_METHODS
from nas.config import make_config
from nas.data.base import FaceData
from nas.errors import ConfigError, ExportError, MeasureError
from nas.post_training.bits import BitsPlan
from nas.post_training.onnx_graph import OnnxGraph
from nas.post_training.user_net import UserNet
from nas.targets.catalog import load_target
from tests.post_training.conftest import FACES, MODEL
from tests.post_training.foreign_files import foreign_model, reference_net, save
from tests.shown import plain

Make = Callable[..., Path]


@pytest.fixture
def make(folder: Path, weights: Path) -> Make:
    """A foreign file in the current folder, with options of `foreign_model`."""
    state = torch.load(weights, weights_only=True)

    def build(name: str = "m.onnx", *, outside: bool = False, **options: Any) -> Path:
        return save(foreign_model(state, **options), Path(name), outside=outside)

    return build


def outputs(path: Path, data: FaceData = FACES) -> np.ndarray[Any, Any]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    kind = np.uint8 if session.get_inputs()[0].type == "tensor(uint8)" else np.float32
    images = data.val.images.astype(kind)
    fixed = isinstance(session.get_inputs()[0].shape[0], int)
    batches = np.split(images, len(images)) if fixed else [images]
    return np.concatenate([session.run(None, {"x": batch})[0] for batch in batches])


def ops(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize(
    "options",
    [{}, {"opset": 11}, {"opset": 9}, {"outside": True}, {"batch": 1}, {"kind": TensorProto.UINT8}, {"classes": ""}],
    ids=["plain", "opset 11", "opset 9", "external data", "batch 1", "uint8", "classes by --classes"],
)
def test_a_foreign_file_is_quantised_with_its_own_face(make: Make, weights: Path, options: dict[str, Any]) -> None:
    path = make(**options)
    classes = FACES.classes if options.get("classes") == "" else ()
    result = nas.quantize(path, bits="8,stem=32,head=32", target="jetson", out="q.onnx", classes=classes)
    with torch.no_grad():
        images = (torch.from_numpy(FACES.val.images).float() - 127.5) / 64
        exact = reference_net(torch.load(weights, weights_only=True))(images).numpy()
    got = outputs(result.path)
    np.testing.assert_allclose(got, exact, atol=0.15 * np.abs(exact).max())
    assert float((got.argmax(1) == FACES.val.labels).mean()) == pytest.approx(result.after.score.accuracy)
    assert result.before.score.accuracy == pytest.approx(float((exact.argmax(1) == FACES.val.labels).mean()))
    before, after = onnx.load(path, load_external_data=False), onnx.load(result.path)
    assert before.graph.input == after.graph.input
    assert [o.name for o in before.graph.output] == [o.name for o in after.graph.output]
    assert before.metadata_props == after.metadata_props
    parts = [path, *path.parent.glob(f"{path.stem}.bin")]  # weights outside the file count
    assert result.before.size_bytes == sum(part.stat().st_size for part in parts)
    assert "BatchNormalization" not in ops(result.path)
    assert result.bits == {"stem": 32, "stage1": 8, "stage2": 8, "head": 32}


def test_weights_are_symmetric_by_channel_and_relus_have_no_pair_before_them(make: Make) -> None:
    path = nas.quantize(make(), bits="8", target="jetson", out="q.onnx").path
    model = onnx.load(path)
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    relus = [node for node in model.graph.node if node.op_type == "Relu"]
    assert len(relus) == 7
    assert {makers[node.input[0]].op_type for node in relus} == {"Conv", "Add"}
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convs) == 8
    for conv in convs:
        levels, scale, zero = (constants[name] for name in makers[conv.input[1]].input)
        assert levels.dtype == np.int8
        assert scale.shape == (len(levels),)
        assert not zero.any()


def test_every_calibration_keeps_the_classes_by_grids_of_its_own(make: Make) -> None:
    graph = OnnxGraph(make(), FACES, load_target("cpu"))
    plan = BitsPlan(units=dict.fromkeys(graph.units, 8))
    exact, written = outputs(Path("m.onnx")).argmax(1), set[bytes]()
    for calibration in CALIBRATION_METHODS:
        graph.write(Path("q.onnx"), plan, calibration=calibration)
        assert float((outputs(Path("q.onnx")).argmax(1) == exact).mean()) > 0.8
        written.add(Path("q.onnx").read_bytes())
    assert len(written) == len(CALIBRATION_METHODS)


def test_signed_grids_are_symmetric_for_tensorrt(make: Make) -> None:
    path = nas.quantize(make(), bits="8", target="jetson", out="q.onnx").path
    zero_points = [numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if t.name.endswith("zero_point")]
    assert zero_points
    assert all(not zero.any() for zero in zero_points)
    assert all(zero.dtype != np.uint8 for zero in zero_points)


def test_float16_and_a_mix_with_int8(make: Make) -> None:
    half = nas.quantize(make(), bits="16", target="jetson", out="h.onnx")
    kinds = {t.data_type for t in onnx.load(half.path).graph.initializer if ".weight" in t.name}
    assert kinds == {TensorProto.FLOAT16}
    assert half.after.score.accuracy == pytest.approx(half.before.score.accuracy, abs=0.02)
    mixed = nas.quantize(make("n.onnx"), bits="8,stem=16,head=16", target="jetson", out="mix.onnx")
    assert {"Cast", "QuantizeLinear"} <= set(ops(mixed.path))
    assert mixed.agreement > 0.8


@pytest.mark.parametrize("where", ["Conv", "Gemm"])
def test_what_float16_cannot_hold_stays_in_float(make: Make, where: str) -> None:
    path = with_large_values(make(), before=where)
    with pytest.raises(ExportError, match=r"must lie within 65,504, but 'large' at 'enlarge' reaches [\d,]+; give it"):
        nas.quantize(path, bits="16", target="jetson", out="h.onnx")
    result = nas.quantize(path, target="jetson", out="q.onnx")
    assert set(result.bits.values()) <= {8, 32}
    assert any(note.startswith("no unit is in 16 bits by itself: values in float16") for note in result.notes)
    assert result.agreement > 0.9


def with_large_values(path: Path, *, before: str) -> Path:
    """The file with values of millions on the way into the last node of a type; it computes what it did."""
    model = onnx.load(path)
    nodes = model.graph.node
    i = max(i for i, node in enumerate(nodes) if node.op_type == before)
    factors = {"up": 2.0**30, "down": 2.0**-30}
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(v), k) for k, v in factors.items())
    nodes.insert(i, helper.make_node("Mul", [nodes[i].input[0], "up"], ["large"], name="enlarge"))
    nodes.insert(i + 1, helper.make_node("Mul", ["large", "down"], ["small"], name="reduce"))
    nodes[i + 2].input[0] = "small"
    onnx.save(model, path)
    return path


def test_a_file_that_mixes_the_images_of_a_batch_is_named(make: Make) -> None:
    path = make()
    assert not any("others of its batch" in note for note in OnnxGraph(path, FACES, load_target("cpu")).notes)
    model = onnx.load(path)
    i = next(i for i, node in enumerate(model.graph.node) if node.op_type == "GlobalAveragePool")
    source = model.graph.node[i].input[0]
    model.graph.node.insert(i, helper.make_node("ReduceMean", [source], ["batch.mean"], axes=[0], keepdims=1))
    model.graph.node.insert(i + 1, helper.make_node("Sub", [source, "batch.mean"], ["apart"], name="apart"))
    model.graph.node[i + 2].input[0] = "apart"
    onnx.save(model, path)
    assert any("others of its batch" in note for note in OnnxGraph(path, FACES, load_target("cpu")).notes)


def test_a_softmax_over_one_element_stays_one_in_integers(make: Make) -> None:
    """As in attention over the one token of a small image; ONNX Runtime's integer kernel gives 0."""
    path = make()
    before = outputs(path)
    model = onnx.load(path)
    i = next(i for i, node in enumerate(model.graph.node) if node.op_type == "GlobalAveragePool")
    source = model.graph.node[i].input[0]
    model.graph.node.insert(i, helper.make_node("GlobalAveragePool", [source], ["token"]))
    model.graph.node.insert(i + 1, helper.make_node("Softmax", ["token"], ["one"], axis=3))
    model.graph.node.insert(i + 2, helper.make_node("Mul", [source, "one"], ["weighed"]))
    model.graph.node[i + 3].input[0] = "weighed"
    onnx.save(model, path)
    graph = OnnxGraph(path, FACES, load_target("cpu"))
    graph.write(Path("q.onnx"), BitsPlan(units=dict.fromkeys(graph.units, 8)), calibration="minmax")
    np.testing.assert_allclose(outputs(Path("q.onnx")), before, atol=0.15 * np.abs(before).max())


def test_nodes_are_kept_and_pinned_by_name(make: Make) -> None:
    nas.quantize(make(), bits="8,layer2.0.conv2=32", keep=["layer1.0.*"], target="jetson", out="q.onnx")
    int8 = {t.name for t in onnx.load("q.onnx").graph.initializer if t.data_type == TensorProto.INT8}
    quantised = {name.removesuffix("_quantized") for name in int8 if name.endswith("_quantized")}
    assert any("layer1.1.conv1" in name for name in quantised)
    assert not any("layer1.0" in name or "layer2.0.conv2" in name for name in quantised)


def test_a_plan_without_narrow_units_gives_the_file_as_it_was(make: Make) -> None:
    result = nas.quantize(make(outside=True), bits="32", target="jetson", out="new/folder/w.onnx")
    np.testing.assert_array_equal(outputs(result.path), outputs(Path("m.onnx")))


def test_own_files_keep_their_units(folder: Path, weights: Path) -> None:
    net = UserNet(make_config(model=MODEL, weights=weights), FACES, load_target("cpu"))
    graph = OnnxGraph(net.given_file(folder), FACES, load_target("cpu"))
    assert graph.units == ("stem", "stage1", "stage2", "head")
    assert graph.layers.keys() >= {"stem.conv1", "stage2.layer2.0.conv1"}


def _two_inputs(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 1, 32, 32]))
    model.graph.node.append(helper.make_node("Identity", ["z"], ["unused"]))


def _quantised(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("QuantizeLinear", ["logits", "std"], ["levels"]))


def _random(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("RandomNormalLike", ["logits"], ["noise"]))


def _no_weights(model: ModelProto) -> None:
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("ReduceMean", ["x"], ["mean1"], axes=[1, 2, 3], keepdims=0))
    model.graph.node.append(helper.make_node("Unsqueeze", ["mean1", "axis"], ["column"]))
    model.graph.node.append(helper.make_node("Concat", ["column"] * 3, ["logits"], axis=1))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({}, _two_inputs, "must have one input of images with 4 axes, but has 2 inputs"),
        ({"batch": 4}, None, "must take one image at a time, but takes 4"),
        ({"kind": TensorProto.FLOAT16}, None, "must take float or uint8 images, but takes float16"),
        ({}, _quantised, "must be in float, but 'QuantizeLinear' is QuantizeLinear: it is quantised already"),
        ({}, _random, "the same answer each time, but 'RandomNormalLike' is RandomNormalLike; export the model in"),
        ({}, _no_weights, "must have a convolution or a matrix product with constant weights"),
        ({"classes": "a,b,c"}, None, "angry"),
    ],
    ids=["two inputs", "batch 4", "float16 input", "quantised", "random", "no weights", "other classes"],
)
def test_what_cannot_be_quantised_is_refused_in_one_line(
    make: Make, options: dict[str, Any], change: Callable[[ModelProto], None] | None, message: str
) -> None:
    path = make(**options)
    if change is not None:
        model = onnx.load(path)
        change(model)
        onnx.save(model, path)
    with pytest.raises((ConfigError, MeasureError), match=message) as caught:
        nas.quantize(path, target="jetson", out="q.onnx")
    assert "\n" not in str(caught.value)
    assert not Path("q.onnx").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": "w.pt"}, "holds its weights and pre-processing, so --weights does not apply"),
        ({"mean": 1.0}, "so --mean does not apply"),
        ({"out": "m.onnx"}, "--out must be another file than the model"),
        ({"keep": ["nope"]}, "'nope' matches none of conv1"),
        ({"bits": "nope=8"}, "'nope' matches none of conv1"),
    ],
)
def test_options_that_do_not_apply_are_refused(make: Make, given: dict[str, Any], message: str) -> None:
    before = make().read_bytes()
    with pytest.raises(ConfigError, match=message):
        nas.quantize("m.onnx", target="jetson", **given)
    assert Path("m.onnx").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no onnx", None])
def test_what_is_no_onnx_file_is_refused(folder: Path, content: bytes | None) -> None:
    if content is not None:
        Path("m.onnx").write_bytes(content)
    with pytest.raises(ConfigError, match=r"m\.onnx must be an ONNX file"):
        nas.quantize("m.onnx")


def test_compress_takes_a_file_for_post_training_work_only(make: Make) -> None:
    make()
    found = CliRunner().invoke(app, ["compress", "--model", "m.onnx", "--target", "cpu", "--out", "c.onnx"])
    assert found.exit_code == 0, found.output
    assert "file c.onnx" in plain(found.stdout)
    refused = CliRunner().invoke(app, ["compress", "--model", "m.onnx", "--epochs", "3"])
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == (
        "nas: m.onnx has no source to train, so only post-training work is possible, but --epochs needs a training or "
        "a search; leave it out, or give --model a factory"
    )
    with pytest.raises(ConfigError, match="has no source to train, so there is nothing to search"):
        nas.compress("m.onnx")
