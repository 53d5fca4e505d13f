"""Small ONNX teachers with outputs in closed form: the mean brightness of each quadrant of the image."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

QUADRANTS = 4


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
