"""ONNX files as other tools write them: batch norms, old opsets, weights outside the file, odd inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests import outside_nets as nets

Array = npt.NDArray[Any]


def foreign_model(
    state: dict[str, torch.Tensor], *, opset: int = 13, batch: int | str = "N", kind: int = TensorProto.FLOAT,
    classes: str = "angry,happy,sad",
) -> ModelProto:  # fmt: skip
    """`tests.outside_nets:ResNet` with its batch norms, written by hand; it takes raw pixels.

    Args:
        state: weights of the net, trained on pixels (x - 127.5) / 64.
        opset: of the file.
        batch: size of the batch; a word leaves it open.
        kind: type of the input.
        classes: names in the metadata; empty for none.
    """
    weights = {name: tensor.numpy() for name, tensor in state.items() if tensor.ndim}
    nodes, last = [], "x"
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [last], ["cast"], to=TensorProto.FLOAT))
        last = "cast"
    nodes += [helper.make_node("Sub", [last, "mean"], ["centred"]), helper.make_node("Div", ["centred", "std"], ["in"])]
    weights |= {"mean": np.array(127.5, np.float32), "std": np.array(64.0, np.float32)}

    def conv(source: str, name: str, norm: str, *, stride: int, pad: int) -> str:
        nodes.append(
            helper.make_node(
                "Conv", [source, f"{name}.weight"], [name], name=name, strides=[stride] * 2, pads=[pad] * 4
            )
        )
        tensors = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        nodes.append(helper.make_node("BatchNormalization", [name, *tensors], [norm], name=norm))
        return norm

    def relu(source: str) -> str:
        nodes.append(helper.make_node("Relu", [source], [f"{source}.relu"]))
        return f"{source}.relu"

    last = relu(conv("in", "conv1", "bn1", stride=2, pad=1))
    nodes.append(helper.make_node("MaxPool", [last], ["pool"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
    last = "pool"
    for block in ("layer1.0", "layer1.1", "layer2.0"):
        stride = 2 if block == "layer2.0" else 1
        out = relu(conv(last, f"{block}.conv1", f"{block}.bn1", stride=stride, pad=1))
        out = conv(out, f"{block}.conv2", f"{block}.bn2", stride=1, pad=1)
        if stride == 2:
            last = conv(last, f"{block}.downsample.0", f"{block}.downsample.1", stride=2, pad=0)
        nodes.append(helper.make_node("Add", [out, last], [f"{block}.sum"], name=f"{block}.add"))
        last = relu(f"{block}.sum")
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["avg"]),
        helper.make_node("Flatten", ["avg"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["logits"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", kind, [batch, 1, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if classes:
        words = ", ".join(f'"{word}"' for word in classes.split(","))
        helper.set_model_props(model, {"labels": f"[{words}]"})
    return model


def save(model: ModelProto, path: Path, *, outside: bool = False) -> Path:
    """Save a model, with its weights in another file on request."""
    onnx.save(model, path, save_as_external_data=outside, location=f"{path.stem}.bin", size_threshold=64)
    return path


def reference_net(state: dict[str, torch.Tensor]) -> nets.ResNet:
    """The net that `foreign_model` holds."""
    net = nets.ResNet()
    net.load_state_dict(state)
    return net.eval()
