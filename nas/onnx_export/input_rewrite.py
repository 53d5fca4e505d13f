"""Input of an exported file rewritten to another form: uint8, channels last, grey from RGB, any size.

New nodes stand before the network, which stays as it is: they make the picture that its plain input takes. Each of them
computes in whole numbers that float32 holds exactly, so the network sees the bytes that Pillow's `convert("L")` and
`resize(..., BILINEAR)` give, in this order, as the package's own reader of images does.
"""

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from nas.errors import ExportError
from nas.input_form import ANY_SIZE, CHANNELS_LAST, INPUT_FORM_PROPERTY, InputForm
from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.pillow_resize import MAX_NETWORK_SIDE, add_pillow_resize

PREFIX = "input_form"
"""Of the names of all new nodes."""
MIN_OPSET = 13
"""The first opset in which ReduceSum, Split and Unsqueeze take their axes as inputs."""
GREY_WEIGHTS = (19595, 38470, 7471)
"""Red, green and blue in Pillow's grey, over 65,536: 0.299, 0.587 and 0.114 of ITU-R BT.601-7, section 2.5.1."""
_GREY_UNIT = 65536


def with_input_form(model: ModelProto, form: InputForm) -> ModelProto:
    """The model with another form of input, and the form in its metadata.

    Args:
        model: one input float32 [N, C, H, W] of pixels 0..255, as `nas.onnx_export.exporter` writes it.
        form: the wanted form; its `network` is the model's own (C, H, W).

    Raises:
        ExportError: the model's input is another one, its opset is older than 13, the network cannot take the colour,
            or its input is too large for pictures of any size.
    """
    _check(model, form)
    rewritten = ModelProto()
    rewritten.CopyFrom(model)
    graph, entry = rewritten.graph, model.graph.input[0]
    builder = GraphBuilder()
    picture = _add_stem(builder, entry.name, form)
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == entry.name:
                node.input[i] = picture
    nodes = [*builder.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(builder.initializers.values())
    dtype = TensorProto.UINT8 if form.dtype == "uint8" else TensorProto.FLOAT
    graph.input[0].CopyFrom(helper.make_tensor_value_info(entry.name, dtype, form.dims()))
    graph.value_info.append(helper.make_tensor_value_info(picture, TensorProto.FLOAT, ["N", *form.network]))
    metadata = {each.key: each.value for each in model.metadata_props}
    metadata |= {INPUT_FORM_PROPERTY: form.to_json(), "input": f"{entry.name}: {form.describe()}"}
    del rewritten.metadata_props[:]
    helper.set_model_props(rewritten, metadata)
    onnx.checker.check_model(rewritten)
    return rewritten


def network_shape(model: ModelProto) -> tuple[int, int, int]:
    """(C, H, W) of a model's plain input.

    Raises:
        ExportError: it has another input than float32 [N, C, H, W] with fixed C, H and W.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    entries = [entry for entry in model.graph.input if entry.name not in stored]
    kind = entries[0].type.tensor_type if len(entries) == 1 else None
    dims = tuple(d.dim_value for d in kind.shape.dim) if kind else ()
    if kind is None or kind.elem_type != TensorProto.FLOAT or len(dims) != 4 or not all(dims[1:]) or dims[0]:
        raise ExportError(
            f"the file must have one input float32 [N, C, H, W] to take another form, but has {len(entries)} inputs "
            f"and {list(dims)}; export the plain file of a run"
        )
    return dims[1], dims[2], dims[3]


def _check(model: ModelProto, form: InputForm) -> None:
    if any(entry.key == INPUT_FORM_PROPERTY for entry in model.metadata_props):
        raise ExportError(
            "the file must have the plain form, but was given another one already; export it from its run"
        )
    if (own := network_shape(model)) != form.network:
        raise ExportError(f"the network must take {list(form.network)}, but takes {list(own)}")
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if opset < MIN_OPSET:
        raise ExportError(f"the file must have opset {MIN_OPSET} or newer, but has {opset}; export it again")
    if form.channels not in (form.network[0], 3) or form.network[0] not in (1, 3):
        raise ExportError(f"the network must take grey or RGB to be given RGB, but takes {form.network[0]} channels")
    if form.size is None and max(form.network[1:]) > MAX_NETWORK_SIDE:
        raise ExportError(
            f"a network that takes pictures of any size must have sides of at most {MAX_NETWORK_SIDE} pixels, but has "
            f"{list(form.network[1:])}; export without {ANY_SIZE}"
        )
    if any(attribute.HasField("g") or attribute.graphs for node in model.graph.node for attribute in node.attribute):
        raise ExportError("the file must have no graphs inside nodes to take another form; export it plain")


def _add_stem(builder: GraphBuilder, value: str, form: InputForm) -> str:
    """Nodes from the new input to the network's picture, float32 [N, C, H, W]; returns its name."""
    if form.dtype == "uint8":  # first, as TensorRT lets nothing but a cast read bytes
        value = builder.add_node("Cast", [value], f"{PREFIX}/float", to=TensorProto.FLOAT)
    if form.layout == CHANNELS_LAST:
        value = builder.add_node("Transpose", [value], f"{PREFIX}/channels_first", perm=[0, 3, 1, 2])
    if form.channels != form.network[0]:
        value = _add_grey(builder, value)
    if form.size is None:
        value = add_pillow_resize(builder, value, f"{PREFIX}/resize", size=form.network[1:], max_side=form.max_side)
    return builder.add_node("Identity", [value], f"{PREFIX}/picture")


def _add_grey(builder: GraphBuilder, value: str) -> str:
    """Grey [N, 1, H, W] of RGB [N, 3, H, W] as Pillow: floor((19595 R + 38470 G + 7471 B + 32768) / 65536).

    The sums are multiples of 1 / 65,536 below 2^8, so float32 holds them exactly in any order. Products of elements
    are no product of matrices, which GPUs compute in TF32.
    """
    weights = np.array(GREY_WEIGHTS, np.float32).reshape(1, 3, 1, 1) / _GREY_UNIT
    factors = builder.add_constant(f"{PREFIX}/grey.weights", weights)
    axes = builder.add_constant(f"{PREFIX}/grey.axis", np.array([1], np.int64))
    half = builder.add_constant(f"{PREFIX}/grey.half", np.array(0.5, np.float32))
    shares = builder.add_node("Mul", [value, factors], f"{PREFIX}/grey/shares")
    luma = builder.add_node("ReduceSum", [shares, axes], f"{PREFIX}/grey/sum", keepdims=1)
    return builder.add_node(
        "Floor", [builder.add_node("Add", [luma, half], f"{PREFIX}/grey/half_up")], f"{PREFIX}/grey"
    )


def at_network_size(model: ModelProto) -> ModelProto:
    """A model of any size with the size of the network inside it: what follows from the size becomes a constant.

    Other models are returned as they are.
    """
    sides = {f"{PREFIX}/resize/{word}/length": i for i, word in ((2, "height"), (3, "width"))}
    gathers = {node.output[0]: node for node in model.graph.node if node.output and node.output[0] in sides}
    picture = next((v for v in model.graph.value_info if v.name == f"{PREFIX}/picture"), None)
    if len(gathers) != len(sides) or picture is None:
        return model
    size = [d.dim_value for d in picture.type.tensor_type.shape.dim]
    fixed = ModelProto()
    fixed.CopyFrom(model)
    dropped = {*sides, *gathers[next(iter(sides))].input[:1]}  # the shape, too, which nothing else reads
    for dim in fixed.graph.input[0].type.tensor_type.shape.dim:
        if dim.dim_param in ("height", "width"):
            dim.dim_value = size[2 if dim.dim_param == "height" else 3]
    for name, axis in sides.items():
        range_name = f"{name.removesuffix('length')}range"
        dropped.add(range_name)
        fixed.graph.initializer.append(numpy_helper.from_array(np.array(size[axis], np.int64), name))
        fixed.graph.initializer.append(numpy_helper.from_array(np.arange(size[axis], dtype=np.int64), range_name))
    nodes = [node for node in fixed.graph.node if node.output[0] not in dropped]
    del fixed.graph.node[:]
    fixed.graph.node.extend(nodes)
    return fixed


def picture_model(model: ModelProto) -> ModelProto:
    """The first part of a model that `with_input_form` made: its output is the picture that the network sees.

    Raises:
        ExportError: the model has the plain form.
    """
    name = f"{PREFIX}/picture"
    last = next((i for i, node in enumerate(model.graph.node) if node.output[0] == name), None)
    if last is None:
        raise ExportError("the model must have another input form, but has the plain one")
    part = ModelProto()
    part.CopyFrom(model)
    del part.graph.node[last + 1 :], part.graph.output[:]
    read = {value for node in part.graph.node for value in node.input}
    kept = [tensor for tensor in part.graph.initializer if tensor.name in read]
    picture = next(value for value in part.graph.value_info if value.name == name)
    part.graph.output.append(picture)
    del part.graph.initializer[:], part.graph.value_info[:]
    part.graph.initializer.extend(kept)
    return part
