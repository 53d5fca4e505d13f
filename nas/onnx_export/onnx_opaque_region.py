"""ONNX form of opaque regions: the writer's own where it knows the layer, else torch's exporter, inlined into the file.

torch's exporter takes 2 s or more a region; equal regions are exported once in a process.
"""

import copy
import hashlib
import io
import logging
import operator
import re
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from nas.errors import ExportError, MissingPackageError, one_line
from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.onnx_ops import emit
from nas.onnx_export.opaque_region import Call, Held, Region, Slot

EXPORT_BATCH = 2
"""torch.export takes a size of 1 for a constant, so the example batch is larger."""
_ARITHMETIC: dict[Any, str] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add), "Add"),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul), "Mul"),
    **dict.fromkeys((operator.sub, torch.sub), "Sub"),
    **dict.fromkeys((operator.truediv, torch.div), "Div"),
    **dict.fromkeys((operator.matmul, torch.matmul), "MatMul"),
}


@emit.register
def _region(module: Region, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    if not inputs:
        with torch.inference_mode():
            return builder.add_constant(name, module().clone().numpy())
    if module.is_plain_call:
        before = len(builder.nodes), dict(builder.initializers)
        try:
            return emit(module.inner, builder, name, inputs)
        except ExportError:  # torch's exporter may know it
            del builder.nodes[before[0] :]
            builder.initializers = before[1]
    if (value := _arithmetic(module, builder, name, inputs)) is not None:
        return value
    return _inline(_exported(module, [builder.shapes[i] for i in inputs]), builder, name, inputs)


def _arithmetic(module: Region, builder: GraphBuilder, name: str, inputs: list[str]) -> str | None:
    """A sum, product and the like of two tensors, one of which may be the region's own; None for other calls."""
    call = module.inner
    op_type = _ARITHMETIC.get(call.function) if isinstance(call, Call) else None
    if op_type is None or module.keywords or len(module.arguments) != 2:
        return None
    values = []
    for argument in module.arguments:
        if isinstance(argument, Slot):
            values.append(inputs[argument.index])
        elif isinstance(argument, Held):
            tensor: Tensor = getattr(module, argument.name)
            values.append(builder.add_parameter(f"{name}.{argument.name}", tensor.float(), dtype_like=inputs[0]))
        else:
            return None
    return builder.add_node(op_type, values, name)


def _exported(module: Region, shapes: list[tuple[int, ...]]) -> onnx.ModelProto:
    """The region as a model of torch's exporter, from a cache where an equal one was exported."""
    buffer = io.BytesIO()
    torch.save(dict(module.state_dict()), buffer)
    call = str(module), module.arguments, module.keywords, module.pick, sorted(module.fixed_inputs), shapes
    key = hashlib.sha256(repr(call).encode())
    key.update(buffer.getvalue())
    return _cached_export(_Keyed(key.hexdigest(), module, shapes))


class _Keyed:
    """A region that compares by its digest, for the cache."""

    def __init__(self, digest: str, module: Region, shapes: list[tuple[int, ...]]) -> None:
        self.digest, self.module, self.shapes = digest, module, shapes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@lru_cache(maxsize=64)
def _cached_export(keyed: _Keyed) -> onnx.ModelProto:
    module = copy.deepcopy(keyed.module).cpu().float().eval()
    generator = torch.Generator().manual_seed(0)
    factors = [None if i in module.fixed_inputs else s[0] for i, s in enumerate(keyed.shapes)]
    sizes = [s if f is None else (EXPORT_BATCH * f, *s[1:]) for f, s in zip(factors, keyed.shapes, strict=True)]
    examples = tuple(torch.randn(size, generator=generator) for size in sizes)
    try:
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError:
        raise MissingPackageError(
            f"a {_describe(module)} is exported by torch, which needs onnxscript; install it: pip install onnxscript"
        ) from None
    batch = torch.export.Dim("batch", min=1)
    axes = tuple({} if factor is None else {0: batch if factor == 1 else factor * batch} for factor in factors)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            try:
                program = torch.onnx.export(
                    _Positional(module), examples, dynamo=True, dynamic_shapes=(axes,), opset_version=18,
                    verbose=False, optimize=True,
                )  # fmt: skip
            finally:
                logging.disable(logging.NOTSET)
    except Exception as error:  # torch raises whatever the user's code does
        reason = one_line(re.sub(r"\x1b\[\d+m", "", str(error.__cause__ or error)))
        raise ExportError(f"torch must be able to export a {_describe(module)}, but cannot: {reason}") from error
    if program is None:
        raise ExportError(f"torch must be able to export a {_describe(module)}, but gave nothing")
    return onnx.inliner.inline_local_functions(program.model_proto)


class _Positional(nn.Module):
    """A region for torch.export, which names the sizes of each positional input."""

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.region.forward(*inputs)


def _describe(module: Region) -> str:
    if isinstance(module.inner, Call):
        return f"call of {getattr(module.inner.function, '__name__', module.inner.function)}"
    return type(module.inner).__name__


def _inline(model: onnx.ModelProto, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    """Put the nodes of a model into the graph; its values get the region's name as a prefix."""
    graph = model.graph
    builder.opset = max(builder.opset, next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")))
    names = {value.name: source for value, source in zip(graph.input, inputs, strict=True)} | {"": ""}
    output = graph.output[0].name

    def renamed(value: str) -> str:
        return names.setdefault(value, name if value == output else f"{name}/{value}")

    for tensor in graph.initializer:
        builder.add_constant(renamed(tensor.name), numpy_helper.to_array(tensor))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]  # the model is cached
    _rename(nodes, renamed)
    for i, node in enumerate(nodes):
        node.name = name if name in node.output else f"{name}/{i}.{node.op_type}"
    builder.nodes.extend(nodes)
    if renamed(output) != name:  # the region returns its input
        return builder.add_node("Identity", [renamed(output)], name)
    return name


def _rename(nodes: Any, renamed: Any) -> None:
    """Rename the values of nodes in place, those of their subgraphs too."""
    for node in nodes:
        node.input[:] = [renamed(value) for value in node.input]
        node.output[:] = [renamed(value) for value in node.output]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                for tensor in attribute.g.initializer:
                    tensor.name = renamed(tensor.name)
                for value in (*attribute.g.input, *attribute.g.output):
                    value.name = renamed(value.name)
                _rename(attribute.g.node, renamed)


def as_opset_18(nodes: list[onnx.NodeProto], builder: GraphBuilder) -> None:
    """Move the axes of reductions into inputs, as opset 18 wants them; the writer writes them for opset 17."""
    for node in nodes:
        if node.op_type in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2"):
            axes = next((a for a in node.attribute if a.name == "axes"), None)
            if axes is not None:
                values = helper.get_attribute_value(axes)
                node.attribute.remove(axes)
                node.input.append(builder.add_constant(f"{node.name}.axes", np.array(values, np.int64)))
