"""Input of an exported ONNX file: its name and its dimensions, read without the weights."""

from dataclasses import dataclass
from pathlib import Path

import onnx


@dataclass(frozen=True, kw_only=True)
class OnnxInput:
    """Inputs of a file, with its graph.

    Attributes:
        graph: of the file; weights stored outside it are not loaded.
        names: of the inputs, in order.
        dims: of the first input; 0 for a dimension that is left open, empty without inputs.
    """

    graph: onnx.GraphProto
    names: tuple[str, ...]
    dims: tuple[int, ...]

    @property
    def is_single_image(self) -> bool:
        """Whether the file has one input [N, C, H, W] with fixed C, H and W; N may be open."""
        return len(self.names) == 1 and len(self.dims) == 4 and min(self.dims[1:]) >= 1


def read_onnx_input(model: Path) -> OnnxInput:
    """Read the input of a file.

    Raises:
        OSError: the file cannot be read.
        Exception: it is no ONNX file; protobuf's errors share no public base, so callers catch all.
    """
    graph = onnx.load(str(model), load_external_data=False).graph
    entries = graph.input
    dims = tuple(d.dim_value for d in entries[0].type.tensor_type.shape.dim) if len(entries) else ()
    return OnnxInput(graph=graph, names=tuple(entry.name for entry in entries), dims=dims)
