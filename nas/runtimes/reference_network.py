"""Reference network: a small, fixed net that is timed before and after a measurement to detect changes of the machine.

Three 3x3 convolutions with ReLU, global pooling and a linear layer on one 1x48x48 image, about 3 million
multiply-accumulates. The weights come from a fixed seed. `REFERENCE_VERSION` changes whenever the file would, because
times of different references are not comparable.
"""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

REFERENCE_VERSION = 1
INPUT_SHAPE = (1, 48, 48)


@functools.cache
def reference_path() -> Path:
    """Path of the reference network's file, written once in this process and removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="fer-nas-"))
    atexit.register(remove_reference)
    path = folder / f"reference-{REFERENCE_VERSION}.onnx"
    path.write_bytes(reference_model().SerializeToString())
    return path


def remove_reference() -> None:
    """Remove the file of `reference_path`: for processes that end by `os._exit`, and for all others at their end."""
    if reference_path.cache_info().currsize:
        shutil.rmtree(reference_path().parent, ignore_errors=True)


def reference_model() -> onnx.ModelProto:
    """The reference network: FP32 images [N, 1, 48, 48] to probabilities [N, 7]."""
    random = np.random.default_rng(REFERENCE_VERSION)
    nodes, weights, tensor, channels = [], [], "image", 1
    for i, (width, stride) in enumerate([(16, 1), (24, 2), (32, 2)]):
        kernel = random.normal(0, 0.1, (width, channels, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{i}"))
        nodes.append(helper.make_node("Conv", [tensor, f"w{i}"], [f"c{i}"], pads=[1] * 4, strides=[stride] * 2))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        tensor, channels = f"r{i}", width
    weights.append(numpy_helper.from_array(random.normal(0, 0.1, (channels, 7)).astype(np.float32), "head"))
    nodes += [
        helper.make_node("GlobalAveragePool", [tensor], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *INPUT_SHAPE])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 7])
    graph = helper.make_graph(nodes, "reference", [image], [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model
