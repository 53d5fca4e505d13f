"""Foreign ONNX files: read within bounds, and the name, type and dimensions of their image input.

A file of unknown origin may hold anything that protobuf can express. Negative or huge dimensions abort the process
inside shape inference, and very many nodes occupy it for hours. So files are checked here before any other code of
onnx or of a runtime gets them.
"""

import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from nas.errors import ConfigError, one_line
from nas.files import GIT_LFS_POINTER
from nas.input_form import INPUT_FORM_PROPERTY, InputForm, derived_form, read_input_form

MAX_FILE_BYTES = 2**31 - 1
"""Limit of protobuf for one message."""
MAX_NODES = 10_000
"""Of all graphs of a file. Published nets have at most some thousand; shape inference and fusion are superlinear."""
MAX_INPUT_ELEMENTS = 2**26
"""Numbers of one input, with a fixed batch: 4,700 pictures of 3 x 69 x 69, or 20 of 1024 x 1024 in colour."""
MAX_DIMENSION = 2**31 - 1
MAX_TENSOR_ELEMENTS = 2**40
"""Numbers of a tensor that a file declares. Products of dimensions then fit into 64 bits, whatever the type."""
_MAX_DEPTH = 32
"""Graphs inside nodes of graphs inside nodes (If, Loop)."""


@dataclass(frozen=True, kw_only=True)
class OnnxInput:
    """Inputs of a file, with its graph.

    Attributes:
        graph: of the file; weights stored outside it are not loaded.
        names: of the inputs that a caller must give, in order. Up to IR version 3 the weights are listed among the
            graph's inputs; these are left out.
        dims: of the first input; 0 for a dimension that is left open, empty without inputs.
        element_type: ONNX type of the first input; 0 without inputs.
        external_files: files beside this one that hold weights, as the file names them.
        stated_form: the input form that the file's metadata state; None where they state none.
    """

    graph: GraphProto
    names: tuple[str, ...]
    dims: tuple[int, ...]
    element_type: int = TensorProto.FLOAT
    external_files: tuple[str, ...] = ()
    stated_form: InputForm | None = None

    @property
    def is_single_image(self) -> bool:
        """Whether the file has one input of four dimensions, the first of which is open or 1.

        The others are fixed, or open where the metadata state an input form of any size.
        """
        return self.takes_images(1)

    def takes_images(self, batch: int) -> bool:
        """The same with the first dimension open or so many."""
        return len(self.names) == 1 and len(self.dims) == 4 and min(self.image_dims) >= 1 and self.dims[0] in (0, batch)

    @property
    def image_dims(self) -> tuple[int, ...]:
        """`dims` without the first; open sizes of a file of any size are those of the network inside it."""
        if self.stated_form is None or self.stated_form.size is not None:
            return self.dims[1:]
        return tuple(int(n) for n in self.stated_form.dims(size=self.stated_form.network[1:])[1:])

    @property
    def picture_form(self) -> InputForm | None:
        """How the file takes pictures: as its metadata state, else as its input tells; None where neither does.

        The input alone does not tell the scale of the pixels: a file from elsewhere may take other values than 0..255.
        """
        if self.stated_form is not None or len(self.names) != 1:
            return self.stated_form
        dtypes: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8"}
        return derived_form(self.dims, dtypes.get(self.element_type, ""))

    @property
    def form(self) -> str:
        """What the file takes instead of a single image, for messages."""
        if len(self.names) != 1 or not self.dims:
            return f"{len(self.names)} inputs"
        return f"{list(self.dims)}" + (f", {self.dims[0]} images at once" if self.dims[0] > 1 else "")


def read_onnx_input(model: Path) -> OnnxInput:
    """Read the input of a file, and check the file as `read_onnx_model` does.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no ONNX file, or exceeds a bound.
    """
    content = read_onnx_model(model)
    entries = graph_inputs(content.graph)
    kind = entries[0].type.tensor_type if entries else None
    dims = tuple(d.dim_value for d in kind.shape.dim) if kind is not None else ()
    return OnnxInput(
        graph=content.graph,
        names=tuple(entry.name for entry in entries),
        dims=dims,
        element_type=kind.elem_type if kind is not None else 0,
        external_files=external_files(content),
        stated_form=stated_input_form(content),
    )


def read_input_shape(path: Path, *, batch: int = 1) -> tuple[int, int, int]:
    """(C, H, W) of the only input of an ONNX file, or (H, W, C) as it takes pictures, so many at a time.

    A file of any size, from `nas export --input any-size`, counts with the size of the network inside it.

    Raises:
        ConfigError: there is no such file, it is no ONNX file, or its input has another form.
    """
    entry = read_checked_input(path)
    if not entry.takes_images(batch):
        n_images = "one image" if batch == 1 else f"{batch} images"
        raise ConfigError(
            f"{path} must have one input [N, C, H, W] with fixed C, H and W and {n_images} at a time, but has "
            f"{entry.form}; export it so"
        )
    first, second, third = entry.image_dims
    return first, second, third


def read_checked_input(path: Path) -> OnnxInput:
    """Read the input of a file that a user names, as `read_onnx_input` does.

    Raises:
        ConfigError: there is no such file, or it is no ONNX file within the bounds.
    """
    try:
        return read_onnx_input(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} must be an ONNX file, but there is none; `nas export` writes one") from None
    except Exception as error:  # protobuf's errors share no public base
        raise ConfigError(
            f"{path} must be an ONNX file, but cannot be read as one: {one_line(error)}; export it again"
        ) from None


def stated_input_form(model: ModelProto) -> InputForm | None:
    """The input form that a model's metadata state; None where they state none.

    Raises:
        ValueError: the statement cannot be read, or contradicts the model's input.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if INPUT_FORM_PROPERTY not in metadata:
        return None
    entries = graph_inputs(model.graph)
    kind = entries[0].type.tensor_type if len(entries) == 1 else None
    form = read_input_form(metadata, [d.dim_value for d in kind.shape.dim] if kind is not None else [])
    expected = TensorProto.UINT8 if form is not None and form.dtype == "uint8" else TensorProto.FLOAT
    if kind is not None and kind.elem_type != expected:
        name = TensorProto.DataType.Name(kind.elem_type).lower()
        raise ValueError(f"its metadata say that it takes {form.dtype if form else ''}, but its input is {name}")
    return form


def read_onnx_model(path: Path) -> ModelProto:
    """Read a file without the weights outside it, and check it against the bounds of this module.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no ONNX file, or exceeds a bound; the message says which, in one line.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if not 0 < status.st_size <= MAX_FILE_BYTES:
        raise ValueError("it is empty (0 bytes)" if not status.st_size else "it is larger than 2 GiB")
    content = path.read_bytes()
    if content.startswith(GIT_LFS_POINTER):
        raise ValueError("it is a pointer of Git LFS; get the file itself with git lfs pull")
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's errors share no public base
        raise ValueError(one_line(error)) from None
    check_bounds(model)
    return model


def graph_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """Inputs that a caller must give: up to IR version 3 a graph's inputs list its weights too."""
    weights = {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return [entry for entry in graph.input if entry.name not in weights]


def external_files(model: ModelProto) -> tuple[str, ...]:
    """Files beside a model that hold its weights, each once, in order of their names.

    Raises:
        ValueError: a file is outside the model's folder.
    """
    locations: set[str] = set()
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            locations.update(entry.value for entry in tensor.external_data if entry.key == "location")
    for location in locations:
        if not isinstance(location, str):  # protobuf hands bytes on that are no UTF-8
            raise ValueError(f"its weights must be in files with UTF-8 names, but are in {location!r}")
        inside = os.path.normpath(location)
        if not location or inside.startswith(("..", "/")) or "\0" in location:
            raise ValueError(f"its weights must be in files of its own folder, but are in {location!r}")
    return tuple(sorted(locations))


def check_bounds(model: ModelProto) -> None:
    """Check the dimensions, numbers of elements and number of nodes of a model.

    Raises:
        ValueError: a bound is exceeded, or the model has no nodes or outputs.
    """
    if not model.graph.node or not model.graph.output:
        raise ValueError("it has no graph")
    n_nodes = len(model.graph.node)
    if n_nodes <= MAX_NODES:  # else there is no need to look inside them
        n_nodes = sum(1 for _ in _nodes(model))
    if n_nodes > MAX_NODES:
        raise ValueError(f"it has {n_nodes} nodes, more than {MAX_NODES}")
    _check_names(model)
    for graph in _graphs(model):
        for entry in (*graph.input, *graph.output, *graph.value_info):
            sizes = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
            _check_sizes(entry.name, sizes, MAX_TENSOR_ELEMENTS)
    for entry in graph_inputs(model.graph):
        _check_sizes(entry.name, [dim.dim_value for dim in entry.type.tensor_type.shape.dim], MAX_INPUT_ELEMENTS)
    for tensor in _tensors(model):
        _check_sizes(tensor.name, list(tensor.dims), MAX_FILE_BYTES)
        _check_stored_bytes(tensor)


def _check_sizes(name: str, sizes: list[int], max_elements: int) -> None:
    for size in sizes:
        if not 0 <= size <= MAX_DIMENSION:
            raise ValueError(
                f"{one_line(repr(name), max_length=60)} has a dimension of {size}, which must be in "
                f"[0, {MAX_DIMENSION}]; write an open dimension as a name"
            )
    if (elements := math.prod(size or 1 for size in sizes)) > max_elements:
        raise ValueError(
            f"{one_line(repr(name), max_length=60)} has {elements} elements, more than {max_elements}; "
            "export it with a smaller batch or size"
        )


def _check_names(model: ModelProto) -> None:
    """Check that names are text: protobuf hands bytes on that are no UTF-8."""
    names = [entry.key for entry in model.metadata_props] + [entry.value for entry in model.metadata_props]
    for node in _nodes(model):
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    for graph in _graphs(model):
        names += [entry.name for entry in (*graph.input, *graph.output, *graph.value_info, *graph.initializer)]
        names += [dim.dim_param for entry in graph.input for dim in entry.type.tensor_type.shape.dim]
    if unreadable := next((name for name in names if not isinstance(name, str)), None):
        raise ValueError(f"its names must be UTF-8 text, but one is {one_line(repr(unreadable), max_length=60)}")


def _check_stored_bytes(tensor: TensorProto) -> None:
    """Check that a tensor stores the bytes that its dimensions and type declare."""
    n_bits = _ELEMENT_BITS.get(tensor.data_type)
    if not tensor.HasField("raw_data") or tensor.data_location == TensorProto.EXTERNAL or n_bits is None:
        return
    expected = (math.prod(tensor.dims) * n_bits + 7) // 8
    if len(tensor.raw_data) != expected:
        raise ValueError(
            f"{one_line(repr(tensor.name), max_length=60)} must store {expected} bytes for {list(tensor.dims)} of "
            f"{TensorProto.DataType.Name(tensor.data_type)}, but stores {len(tensor.raw_data)}"
        )


_ELEMENT_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.DOUBLE: 64, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16,
    TensorProto.INT8: 8, TensorProto.UINT8: 8, TensorProto.INT16: 16, TensorProto.UINT16: 16, TensorProto.INT32: 32,
    TensorProto.UINT32: 32, TensorProto.INT64: 64, TensorProto.UINT64: 64, TensorProto.BOOL: 8,
}  # fmt: skip
"""Bits of one element of the common types."""


def _graphs(model: ModelProto) -> Iterator[GraphProto]:
    """The graph of a model and those inside its nodes."""
    yield model.graph
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Nodes of a model, of its functions, and of the graphs inside nodes.

    Raises:
        ValueError: graphs are nested more than `_MAX_DEPTH` deep.
    """
    level: list[NodeProto] = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    for _ in range(_MAX_DEPTH):
        yield from level
        level = [
            inner
            for node in level
            for attribute in node.attribute
            for graph in (attribute.g, *attribute.graphs)
            for inner in graph.node
        ]
        if not level:
            return
    raise ValueError(f"its graphs are nested more than {_MAX_DEPTH} deep")


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Stored tensors of a model: weights, and values of attributes."""
    for graph in _graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def load_external_weights(model: ModelProto, folder: Path) -> None:
    """Read the weights of a model that are stored in other files into it.

    Raises:
        ValueError: a file is missing, shorter than the model says, or outside the folder.
    """
    for location in external_files(model):
        if not (folder / location).is_file():
            raise ValueError(f"its weights are in {folder / location}, which does not exist; copy that file too")
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except Exception as error:  # onnx's errors share no base
        raise ValueError(f"its weights outside the file cannot be read: {one_line(error)}") from None
