"""ONNX form of activations beyond those that ONNX Runtime fuses (`nas.onnx_export.onnx_ops`).

GELU is written with Erf, which ONNX Runtime and TensorRT fuse back into one kernel.
"""

from math import pi, sqrt

import numpy as np
from torch import nn

from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.onnx_ops import emit


def constant(builder: GraphBuilder, name: str, value: float, like: str) -> str:
    """A scalar of the type of the value `like`."""
    return builder.add_constant(name, np.array(value, np.float32), dtype_like=like)


@emit.register
def _leaky_relu(module: nn.LeakyReLU, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("LeakyRelu", inputs, name, alpha=float(module.negative_slope))


@emit.register
def _rrelu(module: nn.RReLU, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("LeakyRelu", inputs, name, alpha=(module.lower + module.upper) / 2)


@emit.register
def _prelu(module: nn.PReLU, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    # ONNX broadcasts from the last axis; torch's slopes belong to axis 1.
    slopes = module.weight.detach().reshape(-1, *[1] * max(0, len(builder.shapes[inputs[0]]) - 2))
    return builder.add_node(
        "PRelu", [*inputs, builder.add_parameter(f"{name}.weight", slopes, dtype_like=inputs[0])], name
    )


@emit.register
def _elu(module: nn.ELU, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("Elu", inputs, name, alpha=float(module.alpha))


@emit.register
def _celu(module: nn.CELU, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    # Celu is a function of float32 in ONNX; x / alpha into Elu is the same: alpha * (exp(x / alpha) - 1).
    x, alpha = inputs[0], float(module.alpha)
    if alpha == 1:
        return builder.add_node("Elu", inputs, name, alpha=1.0)
    factor = constant(builder, f"{name}/alpha", alpha, x)
    elu = builder.add_node("Elu", [builder.add_node("Div", [x, factor], f"{name}/div")], f"{name}/elu", alpha=1.0)
    return builder.add_node("Mul", [elu, factor], name)


@emit.register
def _selu(module: nn.SELU, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node(
        "Selu", inputs, name, alpha=1.6732632423543772848170429916717, gamma=1.0507009873554804934193349852946
    )


@emit.register
def _softplus(module: nn.Softplus, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    # torch is linear above the threshold (20), where log(1 + exp(x)) differs by less than float32 rounding.
    if module.beta == 1:
        return builder.add_node("Softplus", inputs, name)
    beta = constant(builder, f"{name}/beta", float(module.beta), inputs[0])
    scaled = builder.add_node("Mul", [inputs[0], beta], f"{name}/mul")
    return builder.add_node("Div", [builder.add_node("Softplus", [scaled], f"{name}/softplus"), beta], name)


@emit.register
def _mish(module: nn.Mish, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    # The operator Mish needs opset 18.
    gate = builder.add_node("Tanh", [builder.add_node("Softplus", inputs, f"{name}/softplus")], f"{name}/tanh")
    return builder.add_node("Mul", [*inputs, gate], name)


@emit.register
def _hardtanh(module: nn.Hardtanh, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    low = constant(builder, f"{name}.low", float(module.min_val), inputs[0])
    return builder.add_node(
        "Clip", [*inputs, low, constant(builder, f"{name}.high", float(module.max_val), inputs[0])], name
    )


@emit.register
def _tanh(module: nn.Tanh, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("Tanh", inputs, name)


@emit.register
def _log_sigmoid(module: nn.LogSigmoid, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    # log(sigmoid(x)) = -softplus(-x), which does not underflow.
    negative = builder.add_node("Neg", inputs, f"{name}/neg")
    return builder.add_node("Neg", [builder.add_node("Softplus", [negative], f"{name}/softplus")], name)


@emit.register
def _softsign(module: nn.Softsign, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return builder.add_node("Softsign", inputs, name)


@emit.register
def _gelu(module: nn.GELU, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    x = inputs[0]
    if module.approximate == "tanh":
        return _gelu_tanh(builder, name, x)
    root, one, half = (
        builder.add_constant(f"{name}/{key}", np.array(value, np.float32), dtype_like=x)
        for key, value in (("sqrt2", sqrt(2)), ("one", 1), ("half", 0.5))
    )
    erf = builder.add_node("Erf", [builder.add_node("Div", [x, root], f"{name}/div")], f"{name}/erf")
    both = builder.add_node("Mul", [x, builder.add_node("Add", [erf, one], f"{name}/add")], f"{name}/mul")
    return builder.add_node("Mul", [both, half], name)


def _gelu_tanh(builder: GraphBuilder, name: str, x: str) -> str:
    """X / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    cubic, root, one, half = (
        constant(builder, f"{name}/{key}", value, x)
        for key, value in (("cubic", 0.044715), ("root", sqrt(2 / pi)), ("one", 1.0), ("half", 0.5))
    )
    square = builder.add_node("Mul", [x, x], f"{name}/square")
    inner = builder.add_node("Add", [builder.add_node("Mul", [square, cubic], f"{name}/mul"), one], f"{name}/add")
    argument = builder.add_node("Mul", [builder.add_node("Mul", [x, inner], f"{name}/mul2"), root], f"{name}/mul3")
    gate = builder.add_node("Add", [builder.add_node("Tanh", [argument], f"{name}/tanh"), one], f"{name}/add2")
    return builder.add_node("Mul", [builder.add_node("Mul", [x, gate], f"{name}/mul4"), half], name)
