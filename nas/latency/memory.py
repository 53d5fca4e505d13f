"""Memory of an ONNX file at batch 1: its weights, and the activations that are alive at once, read off its graph.

Kernels run in the order of the file. A tensor lives from the kernel that writes it to the last one that reads it. The
image lives throughout, as the caller holds it, and outputs live to the end. The peak is the largest sum over the
kernels (as in Liberis and Lane 2019, https://arxiv.org/abs/1910.05110, there over operators):

- What a fused kernel keeps in registers takes no memory: of a convolution with ReLU only the output of the ReLU.
- An element-wise kernel writes over an input of the same size that nothing else reads, as ONNX Runtime plans it.
- Views (reshapes, casts) take no memory of their own, and tensors behind Q/DQ are one byte an element.
- A concatenation is a copy: its inputs and its output are alive together.

Left out is what only a runtime knows: scratch memory of its kernels, reordered copies of weights, alignment, and the
process itself. `benchmarks/memory.py` compares the peak with what ONNX Runtime allocates.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import TensorProto, helper

from nas.latency.onnx_graph import ResolvedGraph

IN_PLACE_OPS = frozenset(
    {
        *("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Selu", "Tanh"),
        *("Softplus", "Erf", "Gelu", "Mish", "Exp", "Sqrt", "Neg", "Abs", "Reciprocal", "Pow"),
        *("Add", "Sub", "Mul", "Div", "Min", "Max", "BatchNormalization"),
    }
)
"""Element-wise operators, whose output may take the place of an input of the same size."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory that one inference of one image needs, without that of the runtime.

    Attributes:
        weight_bytes: stored tensors of the file.
        activation_bytes: largest sum of the activations that are alive at once, image and outputs included.
        peak_kernel: name of the kernel during which that is so; empty for the image alone.
    """

    weight_bytes: int
    activation_bytes: int
    peak_kernel: str

    @property
    def total_bytes(self) -> int:
        """Weights and activations together, which `--max-memory` limits."""
        return self.weight_bytes + self.activation_bytes


@dataclass(frozen=True, kw_only=True)
class KernelTensors:
    """Tensors of one kernel, by their resolved names.

    Attributes:
        name: of the kernel.
        operators: its ONNX operators.
        reads: activations that it reads.
        writes: activations that it writes.
    """

    name: str
    operators: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def compute_memory(graph: ResolvedGraph, kernels: Sequence[KernelTensors]) -> Memory:
    """Memory of a resolved graph at batch 1.

    Args:
        graph: gives the bytes of tensors, and the weights.
        kernels: in order of execution.

    Raises:
        ExportError: the shape of a tensor is unknown at batch 1.
    """
    last_reader = {name: at for at, kernel in enumerate(kernels) for name in kernel.reads}
    last_reader |= {graph.resolve_view(name): len(kernels) for name in graph.outputs}
    alive = {name: graph.tensor_bytes(name) for name in graph.image_inputs if name in last_reader}
    last_reader |= dict.fromkeys(alive, len(kernels))
    peak_bytes, peak_kernel = sum(alive.values()), ""
    for at, kernel in enumerate(kernels):
        # Further outputs that nothing reads, such as the mask of a dropout, are not computed.
        names = [name for name in kernel.writes if name in last_reader] or kernel.writes[:1]
        written = {name: graph.output_bytes(name) for name in names}
        dying = {name: size for name, size in alive.items() if last_reader.get(name, -1) <= at}
        alive |= written
        reused = _overwritten_bytes(kernel, written, dying)
        if sum(alive.values()) - reused > peak_bytes:
            peak_bytes, peak_kernel = sum(alive.values()) - reused, kernel.name
        alive = {name: size for name, size in alive.items() if last_reader.get(name, -1) > at}
    stored = sum(_stored_bytes(tensor) for tensor in graph.initializers.values())
    return Memory(weight_bytes=stored, activation_bytes=peak_bytes, peak_kernel=peak_kernel)


def _overwritten_bytes(kernel: KernelTensors, written: Mapping[str, int], dying: Mapping[str, int]) -> int:
    """Bytes of the input that an element-wise kernel writes its only output over; 0 where it cannot.

    Args:
        kernel: the kernel.
        written: what it writes, with bytes.
        dying: what nothing reads after it, with bytes.
    """
    if len(written) != 1 or not IN_PLACE_OPS.issuperset(kernel.operators):
        return 0
    (size,) = written.values()
    return size if any(dying.get(name) == size for name in kernel.reads) else 0


def _stored_bytes(tensor: TensorProto) -> int:
    return int(math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
