"""ONNX files, checkpoints and arrays, and the functions that read them."""

import io
import json
import random
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import nas
from benchmarks._fuzz_base import attempt, require
from benchmarks._fuzz_mutation import Files, mutate
from nas.data.base import FaceData, Split
from nas.distillation.onnx_teacher import OnnxTeacher
from nas.distillation.teachers import find_teachers
from nas.errors import MeasureError, one_line
from nas.latency.costs import compute_costs
from nas.models.weights import load_weights
from nas.runtimes.onnx_input import read_onnx_input
from nas.runtimes.onnx_trial import run_trial
from nas.runtimes.tensorrt.trtexec import (
    read_model_format,
)


def onnx_net(
    *, batch: int | str = "N", opset: int = 17, ir_version: int = 9, kind: int = TensorProto.FLOAT, **changes: Any
) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = {
        "w": rng.normal(size=(4, 1, 3, 3)).astype(dtype), "b": rng.normal(size=4).astype(dtype),
        "v": rng.normal(size=(4, 7)).astype(dtype),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("image", kind, [batch, 1, 16, 16])]
    if changes.get("weights_as_inputs"):
        inputs += [helper.make_tensor_value_info(n, kind, w.shape) for n, w in weights.items()]
    outputs = [helper.make_tensor_value_info("logits", kind, [batch, 7])]
    if changes.get("two_outputs"):
        outputs.insert(0, helper.make_tensor_value_info("f", kind, [batch, 4]))
    graph = helper.make_graph(
        nodes, "net", inputs, outputs, [numpy_helper.from_array(w, n) for n, w in weights.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    if changes.get("labels"):
        helper.set_model_props(
            model, {"labels": json.dumps(["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"])}
        )
    return model


def onnx_files() -> Sequence[Files]:
    outside = onnx_net()
    weights = b""
    for tensor in outside.graph.initializer:
        onnx.external_data_helper.set_external_data(
            tensor, "net.data", offset=len(weights), length=len(tensor.raw_data)
        )
        weights += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    nets = [
        onnx_net(), onnx_net(batch=1), onnx_net(batch=4), onnx_net(opset=7, ir_version=3, weights_as_inputs=True),
        onnx_net(two_outputs=True), onnx_net(kind=TensorProto.FLOAT16), onnx_net(labels=True),
    ]  # fmt: skip
    return [
        *({"net.onnx": net.SerializeToString()} for net in nets),
        {"net.onnx": outside.SerializeToString(), "net.data": weights},
    ]


_SIZES = (0, 1, -1, 2, 3, 7, 16, 112, 2**20, 2**31, 2**62, -(2**63))


def change_onnx(files: Files, rng: random.Random) -> Files:
    """Fields of the model changed in half of the cases, bytes in the others."""
    if rng.random() < 0.5:
        return mutate(files, rng)
    model = onnx.ModelProto()
    content = files["net.onnx"]
    assert isinstance(content, bytes)
    model.ParseFromString(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change_graph(model, rng)
    return files | {"net.onnx": model.SerializeToString()}


def _change_graph(model: onnx.ModelProto, rng: random.Random) -> None:
    graph, way = model.graph, rng.randrange(12)
    names = [o for node in graph.node for o in node.output] + [i.name for i in graph.input] + [""]
    node = rng.choice(graph.node) if graph.node else graph.node.add()
    entries = [*graph.input, *graph.output]
    tensor = rng.choice(graph.initializer) if graph.initializer else graph.initializer.add()
    if way == 0 and entries:
        dims = rng.choice(entries).type.tensor_type.shape.dim
        (rng.choice(dims) if dims else dims.add()).dim_value = rng.choice(_SIZES)
    elif way == 1 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_SIZES)
    elif way == 2:
        node.op_type = rng.choice(
            ("Loop", "If", "Gemm", "Reshape", "Resize", "Conv", "Softmax", "Nonsense", "", "Gather")
        )
    elif way == 3 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif way == 4 and node.output:
        node.output[0] = rng.choice(names)
    elif way == 5 and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.i = rng.choice(_SIZES)
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(_SIZES)
    elif way == 6:
        graph.node.remove(node)
    elif way == 7:
        graph.node.add().CopyFrom(node)
    elif way == 8 and entries:
        rng.choice(entries).type.tensor_type.elem_type = rng.randrange(24)
    elif way == 9:
        tensor.data_type = rng.randrange(24)
    elif way == 10:
        model.ir_version, model.opset_import[0].version = rng.choice(_SIZES), rng.choice((*_SIZES, 9, 13, 22))
    else:
        tensor.data_location = TensorProto.EXTERNAL
        location = rng.choice(("../x", "/etc/passwd", "net.data", "", "\0", "."))
        tensor.external_data.add(key="location", value=location)


def read_onnx(folder: Path, rng: random.Random) -> None:
    path = folder / "net.onnx"
    attempt(lambda: read_model_format(path))
    teacher = OnnxTeacher(path=path, image_shape=(1, 16, 16))
    entry = read_onnx_input(path) if teacher.model else None
    require(len(teacher.sha256) == 64 and (teacher.classes is None or len(teacher.classes) > 1), "no digest")
    attempt(lambda: teacher.with_raw_input())
    # This process is a child already, as the one that a search starts here is: it may crash.
    try:
        run_trial(path, (1, 1, 16, 16) if entry and entry.is_single_image else ())
    except (nas.NasError, MemoryError):
        raise
    except Exception as error:
        raise MeasureError(one_line(error)) from None
    attempt(lambda: compute_costs(path))
    attempt(teacher.feature_layers)


def small_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 7))


def checkpoints() -> Sequence[Files]:
    torch.manual_seed(0)
    state = small_net().state_dict()
    wrapped = {f"module.{name}": value for name, value in state.items()}
    objects: list[Any] = [
        state, {"state_dict": wrapped, "epoch": 3}, {"model": state, "ema": state}, {"net": {"state_dict": state}},
        {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
        list(state.values()),
    ]  # fmt: skip
    contents = [_saved(entry) for entry in objects] + [_saved(state, _use_new_zipfile_serialization=False)]
    files: list[Files] = [{"w.pt": content} for content in contents]
    try:
        from safetensors.torch import save
    except ImportError:
        return files
    return [*files, {"w.safetensors": save(state)}]


def _saved(entry: Any, **options: Any) -> bytes:
    packed = io.BytesIO()
    torch.save(entry, packed, **options)
    return packed.getvalue()


def change_checkpoint(files: Files, rng: random.Random) -> Files:
    """Entries of a state dict changed in a third of the cases, bytes in the others."""
    if "w.safetensors" in files or rng.random() < 0.65:
        return mutate(files, rng)
    torch.manual_seed(0)
    state: dict[Any, Any] = dict(small_net().state_dict())
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(list(state))
        value = state.pop(name)
        if not isinstance(value, torch.Tensor) or value.is_quantized or value.is_meta or value.is_sparse:
            continue
        way = rng.randrange(11)
        others: list[Callable[[], Any]] = [
            lambda value=value: value * float("nan"), lambda value=value: value.double() * 1e300,
            lambda value=value: value.to(torch.complex64), lambda value=value: value.reshape(-1),
            lambda value=value: value.to_sparse(), lambda value=value: value.to("meta"),
            lambda value=value: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8),
            lambda value=value: value.to(torch.float8_e4m3fn), lambda value=value: value.tolist(),
            lambda value=value: value.to(torch.bool), lambda value=value: nn.Parameter(value),
        ]  # fmt: skip
        # Some types cannot be made of the one before, and torch warns of quantised ones.
        with suppress(RuntimeError), warnings.catch_warnings(action="ignore"):
            value = others[way]()
        state[rng.choice((name, name, name, f"model.{name}", 3, None, ""))] = value
    return {"w.pt": _saved(rng.choice(({"state_dict": state}, {"model": {"ema": state}}, state)))}


def read_checkpoint(folder: Path, rng: random.Random) -> None:
    net = small_net()
    name = "w.safetensors" if (folder / "w.safetensors").exists() or rng.random() < 0.01 else "w.pt"
    load_weights(net, folder / name)
    require(all(torch.isfinite(v).all() for v in net.state_dict().values()), "weights that are not finite")


@cache
def faces() -> FaceData:
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        return Split(images=rng.integers(0, 256, (n, 1, 16, 16), dtype=np.uint8), labels=np.arange(n) % 7)

    classes = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    return FaceData(name="faces", classes=classes, train=split(28), val=split(7), test=None)


def _packed(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    content = io.BytesIO()
    save(content, *arrays, **named)
    return content.getvalue()


def logits() -> Any:
    return np.random.default_rng(0).normal(size=(28, 7)) + 5 * np.eye(7)[faces().train.labels]


def arrays() -> Sequence[Files]:
    labels = np.array(faces().classes)
    plain = _packed(np.save, logits().astype(np.float32))
    return [
        {"t.npy": plain}, {"t.npy": _packed(np.save, logits())},
        {"t.npz": _packed(np.savez, answers=logits(), labels=labels)},
        {"t.npz": _packed(np.savez_compressed, answers=logits(), labels=labels)},
    ]  # fmt: skip


def change_array(files: Files, rng: random.Random) -> Files:
    """Another type, shape or value in half of the cases, bytes in the others."""
    if rng.random() < 0.5:
        return mutate(files, rng)
    dtype = rng.choice(
        ("f2", "f4", "f8", "g", "i1", "u8", "?", "c8", "M8[s]", "m8[s]", "U4", "S4", "O", "f4,f4", ">f4")
    )
    values = logits() * rng.choice((1.0, 1e300, float("nan"), 0.0, float("inf")))
    with np.errstate(all="ignore"):
        array = np.nan_to_num(values).astype("i8").astype(dtype) if dtype[0] in "MmUSO" else values.astype(dtype)
    array = rng.choice(
        (array, array, array[:5], array[:, :1], array[0], array.T, array[None], array.reshape(-1), array[:0])
    )
    words = rng.choice(
        (np.array(faces().classes), np.arange(7), np.array([["a"]]), np.array(["", "\0"] * 4), np.array(None))
    )
    if "t.npy" in files:
        return {"t.npy": _packed(np.save, array)}
    return {
        "t.npz": _packed(
            np.savez, **rng.choice(({"answers": array, "labels": words}, {"answers": array}, {"arr_0": array}))
        )
    }


def read_array(folder: Path, rng: random.Random) -> None:
    name = "t.npz" if (folder / "t.npz").exists() else "t.npy"
    (source,) = find_teachers((str(folder / name),), faces(), classes=rng.choice(((), faces().classes)))
    require(source.outputs is not None and np.isfinite(source.outputs).all(), "logits that are not finite")
