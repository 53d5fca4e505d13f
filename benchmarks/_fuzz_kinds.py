"""Kinds of input that a user hands over: small valid files of each, and the functions that read them.

What is read must also be possible: figures are finite and in their range. An `ImpossibleError` says otherwise and
counts as a traceback, because a wrong result without a word is the worst fault.
"""

import gzip
import io
import json
import math
import os
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import nas
from benchmarks._fuzz_mutation import Files, mutate
from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.config import make_config, read_config, read_run_config
from nas.data.base import FaceData, Split
from nas.data.images import read_images
from nas.data.loading import load_data
from nas.distillation.onnx_teacher import OnnxTeacher
from nas.distillation.teachers import find_teachers
from nas.errors import MeasureError, one_line
from nas.latency.costs import Costs, compute_costs
from nas.latency.latency import Latency
from nas.latency.measured.reference_cache import load_best_ms, store_best_ms
from nas.latency.predicted.learned_roofline import fit_learned_roofline
from nas.latency.predicted.predict import calibration_path, load_calibration, predict_latency, save_calibration
from nas.metrics import score_from_confusion
from nas.models.weights import load_weights
from nas.reporting.html_report import write_report
from nas.results.front_table import write_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.search_end import describe_search_end
from nas.runtimes.board.power import parse_power_mw, parse_rails
from nas.runtimes.board.state import parse_board, parse_states, throttling_reason
from nas.runtimes.onnx_input import read_onnx_input
from nas.runtimes.onnx_trial import run_trial
from nas.runtimes.tensorrt.trtexec import (
    first_error,
    log_tail,
    parse_layers,
    parse_throughput,
    parse_times,
    parse_version,
    read_model_format,
)
from nas.searcher.promotion import RungResults
from nas.searcher.resume_check import check_same_data, check_same_target
from nas.searcher.storage import picks_by_key
from nas.targets.catalog import load_target, load_targets

REPORT_SHARE = 0.01
"""Share of the run folders of which a report is written, too; it takes as long as a hundred other inputs."""


class ImpossibleError(Exception):
    """Something was read that cannot be."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of input.

    Attributes:
        name: on the command line.
        seeds: valid inputs.
        read: reads the files in a folder by every function that a user's files of this kind reach; the generator
            chooses among options.
        change: makes another input of a valid one.
    """

    name: str
    seeds: Callable[[], Sequence[Files]]
    read: Callable[[Path, random.Random], None]
    change: Callable[[Files, random.Random], Files] = mutate


def make_input(kind: Kind, seed: int, index: int) -> tuple[Files, random.Random]:
    """Input number `index` of a seed, and the generator that its reading goes on with."""
    rng = random.Random(f"{seed}/{kind.name}/{index}")
    seeds = _seeds(kind.name)
    return kind.change(dict(rng.choice(seeds)), rng), rng


@cache
def _seeds(name: str) -> Sequence[Files]:
    return KINDS[name].seeds()


def _require(possible: object, what: str) -> None:
    if not possible:
        raise ImpossibleError(what)


# Configurations


def _configs() -> Sequence[Files]:
    full = make_config(
        target="jetson",
        budget="30m",
        max_latency="5ms",
        teacher=("a.onnx",),
        objectives=("accuracy", "latency", "size"),
    )
    tables = b'[search]\ntarget = "cpu"\ntrials = 3\ndata_options = { size = "48" }\n'
    tables += b"[training]\nepochs = 2.5\nrungs = [0.5, 1]\n"
    flat = b'target = "jetson"\nbudget = "4h"\nmax_latency = "5ms"\nseed = 7\n'
    return [{"config.toml": text} for text in (full.to_toml().encode(), tables, flat)]


def _read_config(folder: Path, rng: random.Random) -> None:
    config = rng.choice((read_config, read_run_config))(folder / "config.toml")
    (folder / "again.toml").write_text(config.to_toml(), encoding="utf-8")
    _require(
        not read_config(folder / "again.toml").differences(config), "a configuration that reads otherwise when written"
    )


# Tables


def _fer_text(rng: np.random.Generator, *, end: str = "\n", separator: str = ",") -> str:
    usages = ["Training"] * 7 + ["PublicTest"] * 7
    rows = [
        separator.join((str(i % 7), " ".join(map(str, rng.integers(0, 256, 48 * 48))), usage))
        for i, usage in enumerate(usages)
    ]
    return end.join([separator.join(("emotion", "pixels", "Usage")), *rows, ""])


def _tables() -> Sequence[Files]:
    rng = np.random.default_rng(0)
    text = _fer_text(rng).encode()
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fer2013.csv", text)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        info = tarfile.TarInfo("fer2013/fer2013.csv")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    votes = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
    votes += "".join(
        f"{'Training' if i < 7 else 'PublicTest'},fer{i:07d}.png,{i % 5},4,0,0,1,0,0,1,0,0\n" for i in range(14)
    )
    faces: Files = {f"f{i}.png": _picture(rng.integers(0, 256, (24, 24), dtype=np.uint8), "PNG") for i in range(8)}
    lines = "".join(
        f"f{i}.png,{('anger', 'joy')[i % 2]},{'train' if i < 5 else 'val'},p{i},{i / 9},-0.5\n" for i in range(8)
    )
    return [
        {"fer.csv": text},
        {"fer.csv": _fer_text(rng, end="\r\n", separator=";").encode("utf-8-sig")},
        {"fer.csv.gz": gzip.compress(text)},
        {"fer.zip": zipped.getvalue()},
        {"fer.tar": tarred.getvalue()},
        {"fer.tar.gz": gzip.compress(tarred.getvalue())},
        {"fer.csv": text, "fer2013new.csv": votes.encode()},
        {"faces.csv": f"path,label,split,subject,valence,arousal\n{lines}".encode(), **faces},
        {"faces.csv": f"path,label,split,subject,valence,arousal\n{lines}".encode(), **faces},
    ]


def _read_table(folder: Path, rng: random.Random) -> None:
    names = sorted(path.name for path in folder.iterdir())
    source = next((name for name in names if name.startswith(("fer.", "faces.csv"))), "fer.csv")
    options = {"ferplus": str(folder / "fer2013new.csv")} if "fer2013new.csv" in names else {}
    if source == "faces.csv":
        options = rng.choice(({}, {"size": "32"}, {"size": "48", "channels": "3"}))
    data = load_data(
        "csv" if source == "faces.csv" else "fer2013", folder / source, options=options, cache_dir=folder / "cache"
    )
    _check_data(data)


def _check_data(data: FaceData) -> None:
    _require(len(set(data.classes)) == len(data.classes) >= 2, "fewer than two classes")
    for split in (data.train, data.val, data.test):
        if split is not None:
            _require(
                split.images.dtype == np.uint8 and len(split.images) == len(split.labels) > 0, "a split without images"
            )
            _require(split.labels.min() >= 0 and split.labels.max() < len(data.classes), "a label of no class")
            for soft in (split.soft_labels, split.affect):
                _require(soft is None or np.isfinite(soft).all(), "votes, valence or arousal that are not finite")


# Pictures


def _picture(pixels: Any, form: str, **options: Any) -> bytes:
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, form, **options)
    return packed.getvalue()


def _pictures() -> Sequence[Files]:
    from PIL import Image

    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (40, 36), dtype=np.uint8), rng.integers(0, 256, (36, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "x"
    contents = [
        _picture(pixels, form) for pixels in (grey, colour) for form in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM")
    ]
    contents += [
        _picture(pixels, form, exif=exif) for pixels in (grey, colour) for form in ("PNG", "JPEG", "TIFF", "WEBP")
    ]
    contents += [
        _picture(colour, "TIFF", compression="tiff_lzw"),
        _picture(grey, "GIF"),
        _picture(colour, "JPEG", progressive=True),
    ]
    contents += [_picture(grey.astype(np.uint16) * 257, form) for form in ("PNG", "TIFF")]
    contents += [_picture(grey.astype(np.float32) / 255, "TIFF"), _picture(np.dstack([colour, colour[..., :1]]), "PNG")]
    return [{"face.png": content} for content in contents]


def _read_picture(folder: Path, rng: random.Random) -> None:
    size, channels = rng.choice((None, 48)), rng.choice((None, 1, 3))
    images = read_images([folder / "face.png"], size=size, channels=channels)
    _require(images.dtype == np.uint8 and images.ndim == 4 and images.shape[1] in (1, 3), "no image")
    _require(size is None or images.shape[2:] == (size, size), "an image of another size")


# ONNX files


def _net(
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


def _onnx_files() -> Sequence[Files]:
    outside = _net()
    weights = b""
    for tensor in outside.graph.initializer:
        onnx.external_data_helper.set_external_data(
            tensor, "net.data", offset=len(weights), length=len(tensor.raw_data)
        )
        weights += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    nets = [
        _net(), _net(batch=1), _net(batch=4), _net(opset=7, ir_version=3, weights_as_inputs=True),
        _net(two_outputs=True), _net(kind=TensorProto.FLOAT16), _net(labels=True),
    ]  # fmt: skip
    return [
        *({"net.onnx": net.SerializeToString()} for net in nets),
        {"net.onnx": outside.SerializeToString(), "net.data": weights},
    ]


_SIZES = (0, 1, -1, 2, 3, 7, 16, 112, 2**20, 2**31, 2**62, -(2**63))


def _change_onnx(files: Files, rng: random.Random) -> Files:
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


def _read_onnx(folder: Path, rng: random.Random) -> None:
    path = folder / "net.onnx"
    _attempt(lambda: read_model_format(path))
    teacher = OnnxTeacher(path=path, image_shape=(1, 16, 16))
    entry = read_onnx_input(path) if teacher.model else None
    _require(len(teacher.sha256) == 64 and (teacher.classes is None or len(teacher.classes) > 1), "no digest")
    _attempt(lambda: teacher.with_raw_input())
    # This process is a child already, as the one that a search starts here is: it may crash.
    try:
        run_trial(path, (1, 1, 16, 16) if entry and entry.is_single_image else ())
    except (nas.NasError, MemoryError):
        raise
    except Exception as error:
        raise MeasureError(one_line(error)) from None
    _attempt(lambda: compute_costs(path))
    _attempt(teacher.feature_layers)


def _attempt(read: Callable[[], object]) -> None:
    """Read by one function of several, each of which may refuse."""
    try:
        read()
    except nas.NasError as error:
        _require_line(error)


def _require_line(error: Exception) -> None:
    _require(str(error).isprintable() and str(error), f"a refusal that is no line: {str(error)[:200]!r}")


# Checkpoints


def _small_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 7))


def _checkpoints() -> Sequence[Files]:
    torch.manual_seed(0)
    state = _small_net().state_dict()
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


def _change_checkpoint(files: Files, rng: random.Random) -> Files:
    """Entries of a state dict changed in a third of the cases, bytes in the others."""
    if "w.safetensors" in files or rng.random() < 0.65:
        return mutate(files, rng)
    torch.manual_seed(0)
    state: dict[Any, Any] = dict(_small_net().state_dict())
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


def _read_checkpoint(folder: Path, rng: random.Random) -> None:
    net = _small_net()
    name = "w.safetensors" if (folder / "w.safetensors").exists() or rng.random() < 0.01 else "w.pt"
    load_weights(net, folder / name)
    _require(all(torch.isfinite(v).all() for v in net.state_dict().values()), "weights that are not finite")


# Arrays


@cache
def _faces() -> FaceData:
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        return Split(images=rng.integers(0, 256, (n, 1, 16, 16), dtype=np.uint8), labels=np.arange(n) % 7)

    classes = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    return FaceData(name="faces", classes=classes, train=split(28), val=split(7), test=None)


def _packed(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    content = io.BytesIO()
    save(content, *arrays, **named)
    return content.getvalue()


def _logits() -> Any:
    return np.random.default_rng(0).normal(size=(28, 7)) + 5 * np.eye(7)[_faces().train.labels]


def _arrays() -> Sequence[Files]:
    labels = np.array(_faces().classes)
    plain = _packed(np.save, _logits().astype(np.float32))
    return [
        {"t.npy": plain}, {"t.npy": _packed(np.save, _logits())},
        {"t.npz": _packed(np.savez, answers=_logits(), labels=labels)},
        {"t.npz": _packed(np.savez_compressed, answers=_logits(), labels=labels)},
    ]  # fmt: skip


def _change_array(files: Files, rng: random.Random) -> Files:
    """Another type, shape or value in half of the cases, bytes in the others."""
    if rng.random() < 0.5:
        return mutate(files, rng)
    dtype = rng.choice(
        ("f2", "f4", "f8", "g", "i1", "u8", "?", "c8", "M8[s]", "m8[s]", "U4", "S4", "O", "f4,f4", ">f4")
    )
    values = _logits() * rng.choice((1.0, 1e300, float("nan"), 0.0, float("inf")))
    with np.errstate(all="ignore"):
        array = np.nan_to_num(values).astype("i8").astype(dtype) if dtype[0] in "MmUSO" else values.astype(dtype)
    array = rng.choice(
        (array, array, array[:5], array[:, :1], array[0], array.T, array[None], array.reshape(-1), array[:0])
    )
    words = rng.choice(
        (np.array(_faces().classes), np.arange(7), np.array([["a"]]), np.array(["", "\0"] * 4), np.array(None))
    )
    if "t.npy" in files:
        return {"t.npy": _packed(np.save, array)}
    return {
        "t.npz": _packed(
            np.savez, **rng.choice(({"answers": array, "labels": words}, {"answers": array}, {"arr_0": array}))
        )
    }


def _read_array(folder: Path, rng: random.Random) -> None:
    name = "t.npz" if (folder / "t.npz").exists() else "t.npy"
    (source,) = find_teachers((str(folder / name),), _faces(), classes=rng.choice(((), _faces().classes)))
    _require(source.outputs is not None and np.isfinite(source.outputs).all(), "logits that are not finite")


# What trtexec and a board write


def _device_outputs() -> Sequence[Files]:
    runs = [{"startComputeMs": i * 0.1, "computeMs": 0.05 + i * 1e-4, "h2dMs": 0.0} for i in range(20)]
    layers = [
        {"count": 20},
        *({"name": f"conv{i}", "timeMs": 1.0, "averageMs": 0.02, "medianMs": 0.02} for i in range(5)),
    ]
    log = (
        "&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=a.onnx\n"
        "[11/28/2026-10:00:00] [I] Throughput: 1234.5 qps\n[11/28/2026-10:00:00] [E] [TRT] Error Code 4: parse failed\n"
    )
    board = (
        "model=NVIDIA Jetson Orin Nano\nrelease=# R36 (release), REVISION: 4.3, GCID: 1\nmode=15W\nmachine=aarch64\n"
        "min_hz=306000000\nmax_hz=624750000\nover_current=0\nfree_kb=1000000\nmemory_kb=4000000\n"
        "state 624750000 48000\n"
    )
    power = "rail VDD_IN /sys/bus/i2c/in1_input /sys/bus/i2c/curr1_input\npower 4500\npower 4600\n"
    old = {"log.txt": log.replace("v100300", "v8205").encode(), "layers.json": json.dumps(layers[1:]).encode()}
    whole = {
        "times.json": json.dumps(runs).encode(), "layers.json": json.dumps(layers, indent=1).encode(),
        "log.txt": log.encode(), "board.txt": board.encode(), "power.txt": power.encode(),
    }  # fmt: skip
    return [whole, whole | old]


def _change_device_output(files: Files, rng: random.Random) -> Files:
    """A change of the content: what a board sends is text, never a file of this machine."""
    changed = mutate(files, rng)
    return {name: content if isinstance(content, bytes) else b"" for name, content in changed.items()}


def _read_device_outputs(folder: Path, rng: random.Random) -> None:
    texts = {path.stem: path.read_bytes().decode(errors="replace") for path in folder.iterdir()}
    for parse in (parse_times, parse_layers):
        try:
            times = np.array([getattr(e, "ms", e) for e in parse(texts["times" if parse is parse_times else "layers"])])
            _require(np.isfinite(times).all() and (times >= 0).all(), "a time that is not finite")
        except nas.NasError as error:
            _require_line(error)
    board = parse_board(texts["board"])
    throttling_reason(board, parse_states(texts["board"]), board)
    board.versions()
    parse_rails(texts["power"])
    _require(all(mw >= 0 for mw in parse_power_mw(texts["power"])), "a power below 0")
    throughput = parse_throughput(texts["log"])
    _require(throughput is None or 0 < throughput < math.inf, "a throughput that is not finite")
    _require(
        "\n" not in first_error(texts["log"]) and all(line.isprintable() for line in log_tail(texts["log"])),
        "a raw log",
    )
    parse_version(texts["log"])


# Hardware profiles


@cache
def _calibration() -> bytes:
    models = [compute_costs(_scaled_net(width)) for width in range(1, 13)]
    profile = load_target("jetson")
    fitted = fit_learned_roofline(models, [0.05 + 1e-8 * c.macs + 0.01 * len(c.kernels) for c in models], profile)
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"nas-fuzz-{os.getpid()}"
    path = save_calibration(fitted, profile, {"when": "2026-01-01"}, folder=folder)
    content = path.read_bytes()
    path.unlink()
    folder.rmdir()
    return content


def _scaled_net(width: int) -> onnx.ModelProto:
    net = _net(batch=1)
    for entry in (net.graph.input[0],):
        for dim in entry.type.tensor_type.shape.dim[2:]:
            dim.dim_value = 8 * width
    return net


@cache
def _costs() -> Costs:
    return compute_costs(_scaled_net(3))


@cache
def _jetson() -> HardwareProfile:
    return load_target("jetson")


def _profiles() -> Sequence[Files]:
    own = (
        b'[target.mynano]\nlike = "jetson-orin-nano"\nssh = "user@host:2222"\n'
        b'trtexec = "/usr/bin/trtexec"\nbuild_limit_s = 60\n'
        b'[target.slow]\nlike = "jetson-agx-orin"\npower_mode = "15W"\n'
    )
    reference = {"this machine": {"ms": 0.05, "when": "2026-11-01T00:00:00+00:00"}}
    return [{"nas.toml": own, "calibration.json": _calibration(), "reference.json": json.dumps(reference).encode()}]


def _read_profiles(folder: Path, rng: random.Random) -> None:
    _attempt(lambda: load_targets(folder / "nas.toml"))
    best = load_best_ms(folder / "reference.json", "this machine")
    _require(best is None or 0 < best < math.inf, "a best time that is not finite")
    store_best_ms(folder / "reference.json", "this machine", 0.04)
    profile = _jetson()
    path = folder / "calibration.json"
    if path.exists() or path.is_symlink():
        path.rename(calibration_path(profile, folder=folder))
    load_calibration(profile, folder=folder)
    latency = predict_latency(_costs(), profile, folder=folder)
    _require(0 < latency.latency_ms < math.inf, "a latency that is not finite")


# Run folders


def _record(trial: int, accuracy: float, ms: float, **fields: Any) -> Record:
    candidate = Candidate(
        space="plain", architecture={"depth": trial, "input": 48}, widths={"stage1": 16, "stage2": 32},
        pruned={"stage1": 16, "stage2": 32}, bits={"stem": 32, "stage1": 32, "stage2": 8, "head": 32},
    )  # fmt: skip
    hits = round(100 * accuracy)
    score = score_from_confusion(np.array([[hits, 100 - hits], [100 - hits, hits]]), ("angry", "happy"))
    latency = Latency(
        kind="predicted", device="Jetson", runtime="tensorrt", latency_ms=ms, low_ms=0.6 * ms, high_ms=1.5 * ms,
        versions={"predictor": "roofline 1"},
    )  # fmt: skip
    host = replace(
        latency, kind="measured", p5_ms=0.9 * ms, p99_ms=2 * ms, runs=300, drift=0.01, notes=("busy machine",)
    )
    record = Record(
        trial=trial, key=candidate.key, status="complete", candidate=candidate, score=score, latency=latency, host=host,
        accuracy_split="val", size_bytes=1000 + trial, params=900, nonzero_params=800, macs=10**6, epochs=3.0, rung=2,
        parity={"max_difference": 1e-6, "agreement": 1.0, "n": 256}, model=f"models/{trial}.onnx", sha256="0" * 64,
        seconds={"train": 20.0, "measure": 0.5}, proxies={"nwot": 1.0},
        finished=(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=trial)).isoformat(),
    )  # fmt: skip
    return replace(record, **fields)


def _runs() -> Sequence[Files]:
    infeasible = _record(
        3, 0.9, 9.0, status="infeasible", reason="max_latency exceeded", violations={"max_latency": 0.8}
    )
    failed = _record(4, 0.5, 1.0, status="failed", reason="loss is not finite", score=None, latency=None, model="")
    records = [_record(0, 0.4, 1.0), _record(1, 0.55, 2.0), _record(2, 0.7, 4.0), infeasible, failed]
    records += [_record(i, 0.5 + 0.1 * i, 1.0 + i, phase="verified", test=records[0].score) for i in range(2)]
    rungs = [{"key": r.key, "rung": 1, "values": [0.3, 1.0]} for r in records[:3]]
    data = {
        "digest": "d" * 64,
        "classes": ["angry", "happy"],
        "notes": [],
        "synthetic": False,
        "train": 28,
        "val": 7,
        "test": 0,
    }
    data |= {"name": "faces", "val_name": "val", "test_name": "none"}
    prior = {"path": "runs/a", "target": "cpu", "same_target": False, "told": [], "records": [], "front": []}
    folder: Files = {
        "config.toml": make_config(target="jetson", space="plain", name="run").to_toml().encode(),
        "records.jsonl": "".join(f"{r.to_json()}\n" for r in records).encode(),
        "rungs.jsonl": "".join(f"{json.dumps(rung)}\n" for rung in rungs).encode(),
        "data.json": json.dumps(data).encode(),
        "environment.json": b'{"python": "3.12", "torch": "2.13"}',
        "importance.json": b'{"accuracy": {"depth": 0.7, "width": 0.3}}',
        "forecast.json": b'{"pilot": {"words": "about 10 candidates"}, "early": {"words": "12"}}',
        "ended.json": b'{"why": "trials", "candidates": 5, "horizon": null, "told": ""}',
        "clocks/1-1.json": b"[1767225600.0, 1767226200.0]",
        "warm_start.json": json.dumps([prior]).encode(),
        "journal.log": _journal(records),
        "locks/.keep": b"",
    }
    main = ("records.jsonl", "config.toml", "locks/.keep")
    return [folder, folder, {name: folder[name] for name in main}]


def _journal(records: Sequence[Record]) -> bytes:
    """An Optuna journal with a trial for each record."""
    import tempfile

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as place:
        from nas.searcher.storage import open_storage

        (Path(place) / "locks").mkdir()
        study = optuna.create_study(
            storage=open_storage(Path(place), None), study_name="run", directions=["maximize", "minimize"]
        )
        for record in records[:3]:
            trial = study.ask()
            trial.suggest_categorical("depth", [1, 2, 3])
            trial.set_user_attr("key", record.key)
            study.tell(trial, [0.5, 1.0])
        return (Path(place) / "journal.log").read_bytes()


def _read_run(folder: Path, rng: random.Random) -> None:
    run = nas.load_run(folder)
    readers: list[Callable[[], object]] = [
        lambda: run.records, lambda: run.front, lambda: run.seed_statistics, lambda: run.dropped, lambda: run.data,
        lambda: nas.pick(run), lambda: nas.table(run), lambda: run.folder.worked_s(),
        lambda: describe_search_end(run.folder, run.all_records),
        lambda: write_front(run.folder, run.config.search.objectives),
        lambda: picks_by_key(run.folder), lambda: check_same_data(run.folder, _faces()),
        lambda: check_same_target(run.folder, _jetson(), target="jetson"),
        lambda: RungResults(run.folder, ("accuracy", "latency")).first_rung_accuracies(),
        lambda: find_teachers((str(folder),), _faces()),
    ]  # fmt: skip
    for read in rng.sample(readers, 3):
        _attempt_at_the_door(read)
    if rng.random() < REPORT_SHARE:
        _attempt_at_the_door(lambda: write_report([run.folder], folder / "report.html"))
    before = run.all_records
    for record in before:
        _require(record.latency is None or 0 < record.latency.latency_ms < math.inf, "a latency that is not finite")
        _require(record.score is None or 0 <= record.score.accuracy <= 1, "an accuracy beyond 0..1")
    run.folder.append(_record(9, 0.5, 1.0))
    _require([*before, _record(9, 0.5, 1.0)] == RunFolder(folder).records(), "a record that an added one replaced")


def _attempt_at_the_door(read: Callable[[], object]) -> None:
    """Read as a command does, for which an error of the system is one line, too."""
    try:
        _attempt(read)
    except (OSError, MemoryError, UnicodeError):
        return


KINDS = {
    kind.name: kind
    for kind in (
        Kind(name="config", seeds=_configs, read=_read_config),
        Kind(name="table", seeds=_tables, read=_read_table),
        Kind(name="picture", seeds=_pictures, read=_read_picture),
        Kind(name="onnx", seeds=_onnx_files, read=_read_onnx, change=_change_onnx),
        Kind(name="checkpoint", seeds=_checkpoints, read=_read_checkpoint, change=_change_checkpoint),
        Kind(name="array", seeds=_arrays, read=_read_array, change=_change_array),
        Kind(name="trtexec", seeds=_device_outputs, read=_read_device_outputs, change=_change_device_output),
        Kind(name="profile", seeds=_profiles, read=_read_profiles),
        Kind(name="run", seeds=_runs, read=_read_run),
    )
}
"""Kinds by name."""
