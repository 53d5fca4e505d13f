"""Small teachers with outputs in closed form, and the faces that they are right on."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas.data.base import FaceData
from nas.data.classes import FER2013_CLASSES
from tests.conftest import learnable_faces

QUADRANTS = 4
FACES = learnable_faces(train=24, val=8)
"""Faces of three classes, for which `save_answers` has the right answers."""


def brightness_of_quadrants(
    path: Path,
    *,
    labels: tuple[str, ...] | None = None,
    digest: str | None = None,
    peak: float = 255.0,
    shape: tuple[int, int, int] = (1, 32, 32),
    batch: int | str = "N",
    channels_last: bool = False,
    kind: int = TensorProto.FLOAT,
    softmax: bool = False,
) -> Path:
    """Write a model with outputs [N, 4]: the mean of min(pixel, peak) over each quadrant, the upper ones first.

    Its only layer with feature maps, `maps` [N, 5, H/2, W/2], holds the means of 2x2 pixels times 1 to 5, by channel.

    Args:
        path: the file to write.
        labels: class names for the metadata; left out if None.
        digest: digest of the training data for the metadata; left out if None.
        peak: pixels are clipped to this value.
        shape: (C, H, W) of the input.
        batch: batch size of the input; a name makes it dynamic.
        channels_last: whether the input is [N, H, W, C].
        kind: ONNX type of the input.
        softmax: whether a softmax follows.
    """
    channels, height, width = shape
    sizes = (batch, height, width, channels) if channels_last else (batch, channels, height, width)
    weights = np.repeat(np.arange(1, 6)[:, None], channels, 1)[:, :, None, None] * np.full((2, 2), 1 / 4 / channels)
    nodes = [helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT)]
    if channels_last:
        nodes.append(helper.make_node("Transpose", ["real"], ["upright"], perm=[0, 3, 1, 2]))
    upright = "upright" if channels_last else "real"
    nodes += [
        helper.make_node("Clip", [upright, "floor", "peak"], ["clipped"]),
        helper.make_node("Conv", ["clipped", "kernel"], ["maps"], strides=[2, 2]),
        helper.make_node("Conv", ["maps", "first"], ["one"]),
        helper.make_node(
            "AveragePool",
            ["one"],
            ["pooled"],
            kernel_shape=[height // 4, width // 4],
            strides=[height // 4, width // 4],
        ),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    if softmax:
        nodes[-1].output[0] = "logits"
        nodes.append(helper.make_node("Softmax", ["logits"], ["y"]))
    first = np.zeros((1, 5, 1, 1))
    first[0, 0] = 1
    weights_by_name = {"floor": np.array(-1e9), "peak": np.array(peak), "kernel": weights, "first": first}
    graph = helper.make_graph(
        nodes, "quadrants", [helper.make_tensor_value_info("x", kind, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, QUADRANTS])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights_by_name.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    properties = {} if labels is None else {"labels": json.dumps(list(labels))}
    helper.set_model_props(model, properties | ({} if digest is None else {"dataset_digest": digest}))
    onnx.save(model, path)
    return path


def save_answers(path: Path) -> str:
    """Logits that are right on every training image, in the order of the data."""
    np.save(path, 5 * np.eye(len(FACES.classes), dtype=np.float32)[FACES.train.labels])
    return str(path)


def expressions(n: int = 210) -> FaceData:
    """Faces of FER2013's seven classes; the brightness of the image tells the class."""
    labels = np.arange(n) % 7
    images = np.broadcast_to((30 * labels + 20).astype(np.uint8)[:, None, None, None], (n, 1, 32, 32))
    split = replace(FACES.train, images=np.ascontiguousarray(images), labels=labels)
    return replace(FACES, classes=FER2013_CLASSES, train=split)


def in_order(path: Path, order: Sequence[str], *, outputs: tuple[str, ...] = ("y",)) -> str:
    """A model that recognises the classes of `expressions` by brightness; its outputs `y` are in this order."""
    levels = np.array([30.0 * FER2013_CLASSES.index(word) + 20 if word in FER2013_CLASSES else 1e4 for word in order])
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]), helper.make_node("Flatten", ["mean"], ["level"]),
        helper.make_node("Sub", ["level", "levels"], ["off"]), helper.make_node("Abs", ["off"], ["far"]),
        helper.make_node("Neg", ["far"], ["y"]), helper.make_node("Flatten", ["x"], ["features"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 32, 32])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(levels.astype(np.float32)[None], "levels")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return str(path)
