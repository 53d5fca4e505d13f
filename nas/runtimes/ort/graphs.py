"""ONNX graphs as values: folded by ONNX Runtime, run for any of their tensors, and kept in order after a change."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto, helper, numpy_helper

from nas.errors import ExportError, one_line
from nas.runtimes.ort.session import CPU_PROVIDER, session_options

Array = npt.NDArray[Any]


def fold_graph(model: ModelProto) -> ModelProto:
    """The model after the optimisations that keep standard operators: batch norms and constants folded.

    Nodes get names, inputs and outputs stay.

    Raises:
        ExportError: ONNX Runtime refuses the model.
    """
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "folded.onnx"
        onnx.save(model, source)
        options = session_options(1)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        with as_export_error("an ONNX model must load"):
            ort.InferenceSession(str(source), sess_options=options, providers=[CPU_PROVIDER])
        folded = onnx.load(target)
    used = {node.domain for node in folded.graph.node} | {""}
    kept = [entry for entry in folded.opset_import if entry.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    taken: set[str] = set()
    for i, node in enumerate(folded.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{i}"
        taken.add(node.name)
    return folded


def replace_softmaxes_of_one(model: ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write each softmax over an axis of one element as a power of 0, in place; both give 1.

    ONNX Runtime 1.31's integer kernel gives 0 for one element.

    Args:
        model: of opset 13 or more.
        shapes: of tensors for one image, by name.
    """
    for node in model.graph.node:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
        if node.op_type == "Softmax" and shapes.get(node.input[0], (0,))[axis] == 1:
            exponent = numpy_helper.from_array(np.array(0, np.float32), f"{node.name}.exponent")
            node.op_type = "Pow"
            del node.attribute[:]
            node.input.append(exponent.name)
            model.graph.initializer.append(exponent)


def run_model(model: ModelProto, feeds: Iterable[Array], *, outputs: Sequence[str] = (), fused: bool = True) -> Any:
    """Values of a model's tensors, one batch of its only input after the other.

    Args:
        model: with one input.
        feeds: values of the input.
        outputs: names of tensors; empty takes the model's own outputs.
        fused: whether ONNX Runtime may fuse and rewrite nodes; without it Q/DQ pairs are computed as they stand.

    Yields:
        For each batch an array for each output.

    Raises:
        ExportError: ONNX Runtime refuses the model or a batch.
    """
    probe = ModelProto()
    probe.CopyFrom(model)
    if outputs:
        del probe.graph.output[:]
        probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    options = session_options(1)
    if not fused:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with as_export_error("an ONNX model must run"):
        session = ort.InferenceSession(probe.SerializeToString(), sess_options=options, providers=[CPU_PROVIDER])
        name = session.get_inputs()[0].name
    for feed in feeds:
        with as_export_error("an ONNX model must run"):
            values = session.run(None, {name: feed})
        yield values


def sort_nodes(model: ModelProto) -> None:
    """Bring the nodes into an order of execution, in place: the standard asks for one, and the converters append."""
    graph = model.graph
    known = {"", *(entry.name for entry in graph.input), *(tensor.name for tensor in graph.initializer)}
    waiting, ordered = list(graph.node), list[NodeProto]()
    while waiting:
        ready = [node for node in waiting if all(name in known for name in outer_inputs(node))]
        if not ready:
            raise ExportError(
                f"an ONNX graph must have an order of execution, but {waiting[0].name!r} waits for itself"
            )
        ordered += ready
        known.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if node not in ready]
    del graph.node[:]
    graph.node.extend(ordered)


def outer_inputs(node: NodeProto) -> set[str]:
    """Tensors that a node reads, those read by graphs inside it included, without what these compute themselves."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            own = {name for n in inner.node for name in n.output} | {t.name for t in inner.initializer}
            own |= {entry.name for entry in inner.input}
            names |= {name for n in inner.node for name in outer_inputs(n)} - own
    return names


def drop_unread(model: ModelProto) -> None:
    """Remove casts and weights that nothing reads, in place."""
    graph = model.graph
    used = {name for node in graph.node for name in outer_inputs(node)} | {entry.name for entry in graph.output}
    nodes = [node for node in graph.node if node.op_type != "Cast" or node.output[0] in used]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in outer_inputs(node)} | used
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


@contextmanager
def as_export_error(what: str) -> Iterator[None]:
    """Turn the exceptions of onnx and ONNX Runtime, which share no base, into one line."""
    try:
        yield
    except Exception as error:
        raise ExportError(f"{what} in ONNX Runtime, but does not: {one_line(error)}") from error
