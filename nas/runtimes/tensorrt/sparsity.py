"""2:4 sparsity of an ONNX file: whether a weight has two zeros in each four neighbours along the input channels.

Sparse tensor cores (compute capability 8.0 and later) skip them, but only in an engine that was built with sparse
weights allowed: `--sparsity=enable`, `BuilderFlag.SPARSE_WEIGHTS`, `trt_sparsity_enable`. The builder then times sparse
kernels beside dense ones. https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html#sparsity
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

GROUP_SIZE, MAX_NONZERO = 4, 2


def has_2_4_weights(graph: GraphProto) -> bool:
    """Whether some weight of a convolution or linear layer has the pattern throughout, in any number format."""
    return any(_is_2_4(weight) for weight in _weights(graph))


def _weights(graph: GraphProto) -> Iterator[npt.NDArray[np.float64]]:
    """Weights [outputs, inputs, ...] of layers of one group, also behind DequantizeLinear and Cast.

    Weights that cannot be read are passed over: what runs the file says what is wrong with it.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    sources = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type in {"DequantizeLinear", "Cast"} and node.input and node.output
    }
    for node in graph.node:
        if node.op_type not in {"Conv", "Gemm", "MatMul"} or len(node.input) < 2:
            continue
        name = node.input[1]
        for _ in sources:  # nodes of a damaged file may feed each other
            name = sources.get(name, name)
        values = _values(stored.get(name))
        if values is None:
            continue
        if node.op_type == "Conv":
            if _attribute(node, "group", 1) == 1:
                yield values
        elif values.ndim == 2:
            yield values if _attribute(node, "transB", 0) else values.T


def _values(tensor: TensorProto | None) -> npt.NDArray[np.float64] | None:
    """The numbers of a stored weight of two dimensions or more; None where there are none, or none that can be read."""
    if tensor is None or tensor.data_location == TensorProto.EXTERNAL or len(tensor.dims) < 2:
        return None
    try:
        return numpy_helper.to_array(tensor).astype(np.float64)
    except (TypeError, ValueError):
        return None


def _is_2_4(weight: npt.NDArray[np.float64]) -> bool:
    """Whether each four neighbours along axis 1 hold at most two values that are not zero, and not all are zero."""
    if weight.shape[1] % GROUP_SIZE or not weight.any():
        return False
    last = np.moveaxis(weight != 0, 1, -1)
    groups = last.reshape(*last.shape[:-1], -1, GROUP_SIZE)
    return bool((groups.sum(axis=-1) <= MAX_NONZERO).all())


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)
