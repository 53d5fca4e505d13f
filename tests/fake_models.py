"""Small ONNX classifiers as this package exports them: one linear layer, with labels, grey or RGB."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LABELS = ("angry", "happy", "sad")


def a_classifier(
    path: Path, *, shape: tuple[int, int, int] = (1, 8, 8), float16: bool = False, qdq: bool = False
) -> Path:
    """Write a file that takes float32 [N, *shape] of pixels 0..255 and gives probabilities of three classes."""
    weights = np.random.default_rng(0).normal(0, 0.002, (int(np.prod(shape)), 3)).astype(np.float32)
    nodes, constants, last = [helper.make_node("Flatten", ["image"], ["flat"])], {"weights": weights}, "flat"
    if float16:
        constants["weights"] = weights.astype(np.float16)
        nodes.append(helper.make_node("Cast", [last], ["half"], to=TensorProto.FLOAT16))
        last = "half"
    if qdq:
        constants |= {"scale": np.array(2.0, np.float32), "zero": np.array(0, np.int8)}
        nodes.append(helper.make_node("QuantizeLinear", [last, "scale", "zero"], ["q"]))
        nodes.append(helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]))
        last = "dq"
    nodes.append(helper.make_node("MatMul", [last, "weights"], ["logits"]))
    if float16:
        nodes.append(helper.make_node("Cast", ["logits"], ["single"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Softmax", ["single" if float16 else "logits"], ["probabilities"]))
    graph = helper.make_graph(
        nodes, "linear", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="fer-nas")
    helper.set_model_props(model, {"labels": json.dumps(LABELS), "space": "plain"})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
