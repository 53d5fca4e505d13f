"""Resize of pictures of any size inside an ONNX graph, equal to Pillow's bilinear one in every byte.

Pillow (https://github.com/python-pillow/Pillow, src/libImaging/Resample.c) resizes along one axis, then along the
other, with a triangle that widens as the picture shrinks. Weights are fixed-point numbers of 22 bits, and each pass
rounds to bytes. Here the width comes first, as in Pillow before 13, and in `nas.data.images.fit_picture` with any.
ONNX's own `Resize` with antialiasing computes something else: ONNX Runtime 1.31 differs from Pillow by up to 16 grey
levels, and TensorRT has none.

Here each pass is one matrix product. Its weights come from the size of the picture by exact arithmetic:

- Weight of the input pixel x for the output pixel i, from a side of `n` to one of `s`, before normalisation:
  max(0, 2 max(n, s) - |(2 x + 1) s - (2 i + 1) n|). This is Pillow's triangle times 2 max(n, s): whole numbers.
- A weight's share of their sum, rounded to 22 bits, is found by a long division of whole numbers in two steps of 11
  bits. The two digits are the two halves of the product's matrix: -1024..1024 and 0..2048, which float32, TF32 and
  FP16 hold exactly.
- Sums of pixels times digits are exact in float32 while 255 * 1024 * (2 n / s + 1) < 2^24, up to n = 31 s. Beyond, a
  byte may differ by one from Pillow's. Sides beyond `nas.input_form.max_side` give NaN, as the division would overflow.
"""

import numpy as np
from onnx import TensorProto, helper

from nas.onnx_export.graph_builder import GraphBuilder

DIGIT = 2.0**11
"""Base of the two digits of a weight; Pillow's weights have 22 bits."""
MAX_EXACT_REDUCTION = 31
"""Up to this reduction of a side every byte is Pillow's."""
MAX_NETWORK_SIDE = 512
"""Longest side of a network's input: beyond it, products of sides exceed the whole numbers of float32."""


def add_pillow_resize(builder: GraphBuilder, value: str, name: str, *, size: tuple[int, int], max_side: int) -> str:
    """Add nodes that resize a picture of any size.

    Args:
        builder: the graph.
        value: float32 [N, C, height, width], whole numbers 0..255.
        name: of the result, and prefix of all that is added.
        size: (H, W) of the result.
        max_side: longest side that is taken, in pixels.

    Returns:
        `name`, float32 [N, C, H, W], whole numbers 0..255; NaN for longer sides.
    """
    shape = builder.add_node("Shape", [value], f"{name}/shape")
    narrow = _add_pass(builder, value, f"{name}/width", shape=shape, axis=3, side=size[1], max_side=max_side)
    resized = _add_pass(builder, narrow, f"{name}/height", shape=shape, axis=2, side=size[0], max_side=max_side)
    return builder.add_node("Identity", [resized], name)


def _add_pass(builder: GraphBuilder, value: str, name: str, *, shape: str, axis: int, side: int, max_side: int) -> str:
    """One pass along an axis, rounded to bytes: 2 for the height, 3 for the width."""
    weights = _add_weights(builder, name, shape=shape, axis=axis, side=side, max_side=max_side)
    operands = [value, weights] if axis == 3 else [weights, value]
    sums = builder.add_node("MatMul", operands, f"{name}/sums")
    halves = builder.add_constant(f"{name}.halves", np.array([side, side], np.int64))
    high, low = f"{name}/high", f"{name}/low"
    builder.nodes.append(helper.make_node("Split", [sums, halves], [high, low], name=f"{name}/split", axis=axis))
    # floor((high 2^11 + low + 2^21) / 2^22), each step exact in float32: powers of two only move the point.
    digit = builder.add_constant(f"{name}.digit", np.array(1 / DIGIT, np.float32))
    half = builder.add_constant(f"{name}.half", np.array(DIGIT / 2, np.float32))
    carry = builder.add_node("Mul", [low, digit], f"{name}/low_share")
    carry = builder.add_node("Floor", [carry], f"{name}/carry")
    total = builder.add_node("Add", [high, carry], f"{name}/total")
    total = builder.add_node("Add", [total, half], f"{name}/total_and_half")
    total = builder.add_node("Mul", [total, digit], f"{name}/share")
    return builder.add_node("Floor", [total], f"{name}/bytes")


def _add_weights(builder: GraphBuilder, name: str, *, shape: str, axis: int, side: int, max_side: int) -> str:
    """Digits of the weights of one pass: [width, 2 W] for the width, [2 H, height] for the height."""
    places = _add_places(builder, name, shape=shape, axis=axis, side=side, max_side=max_side)
    share, remainder = _add_division(builder, f"{name}/first", *places)
    fine, remainder = _add_division(builder, f"{name}/second", remainder, places[1])
    # Pillow rounds halves up; a remainder is never half of the divisor exactly, as that has fewer than 22 factors of 2.
    doubled = builder.add_node("Add", [remainder, remainder], f"{name}/twice_the_rest")
    is_more = builder.add_node("GreaterOrEqual", [doubled, places[1]], f"{name}/rounds_up")
    fine = builder.add_node(
        "Add", [fine, builder.add_node("Cast", [is_more], f"{name}/up", to=TensorProto.INT32)], f"{name}/fine"
    )
    # The low digit goes from 0..2048 to -1024..1023, so that sums of twice as many pixels are exact.
    middle = builder.add_constant(f"{name}.middle", np.array(DIGIT / 2, np.int32))
    is_high = builder.add_node("GreaterOrEqual", [fine, middle], f"{name}/carries")
    carry = builder.add_node("Cast", [is_high], f"{name}/carry_digit", to=TensorProto.INT32)
    base = builder.add_constant(f"{name}.base", np.array(DIGIT, np.int32))
    high = builder.add_node("Add", [share, carry], f"{name}/high_digit")
    low = builder.add_node(
        "Sub", [fine, builder.add_node("Mul", [carry, base], f"{name}/carried")], f"{name}/low_digit"
    )
    digits = builder.add_node("Concat", [high, low], f"{name}/digits", axis=1 if axis == 3 else 0)
    digits = builder.add_node("Cast", [digits], f"{name}/float_digits", to=TensorProto.FLOAT)
    return builder.add_node("Mul", [digits, f"{name}/guard"], f"{name}/weights")


def _add_places(
    builder: GraphBuilder, name: str, *, shape: str, axis: int, side: int, max_side: int
) -> tuple[str, str]:
    """Whole weights of each input pixel for each output pixel, and their sums, as int32; also the guard."""
    index = builder.add_constant(f"{name}.axis", np.array(axis, np.int64))
    length = builder.add_node("Gather", [shape, index], f"{name}/length", axis=0)
    length_float = builder.add_node("Cast", [length], f"{name}/n", to=TensorProto.FLOAT)
    zero = builder.add_constant(f"{name}.zero", np.array(0, np.int64))
    one = builder.add_constant(f"{name}.one", np.array(1, np.int64))
    pixels = builder.add_node("Range", [zero, length, one], f"{name}/range")
    pixels = builder.add_node("Cast", [pixels], f"{name}/pixels", to=TensorProto.FLOAT)
    # (2 x + 1) s along the input, (2 i + 1) n along the output; the width's matrix has the input in its rows.
    twice = builder.add_constant(f"{name}.twice", np.array(2 * side, np.float32))
    offset = builder.add_constant(f"{name}.offset", np.array(side, np.float32))
    centres = builder.add_node("Mul", [pixels, twice], f"{name}/doubled")
    centres = builder.add_node("Add", [centres, offset], f"{name}/centres")
    axes = builder.add_constant(f"{name}.new_axis", np.array([1 if axis == 3 else 0], np.int64))
    centres = builder.add_node("Unsqueeze", [centres, axes], f"{name}/input_centres")
    odd = (2 * np.arange(side) + 1).astype(np.float32)
    outputs = builder.add_constant(f"{name}.outputs", odd[None] if axis == 3 else odd[:, None])
    targets = builder.add_node("Mul", [outputs, length_float], f"{name}/output_centres")
    distance = builder.add_node("Abs", [builder.add_node("Sub", [centres, targets], f"{name}/offsets")], f"{name}/far")
    own = builder.add_constant(f"{name}.side", np.array(side, np.float32))
    reach = builder.add_node("Max", [length_float, own], f"{name}/longer")
    reach = builder.add_node("Add", [reach, reach], f"{name}/reach")
    weights = builder.add_node(
        "Relu", [builder.add_node("Sub", [reach, distance], f"{name}/signed")], f"{name}/triangle"
    )
    along = builder.add_constant(f"{name}.along", np.array([0 if axis == 3 else 1], np.int64))
    sums = builder.add_node("ReduceSum", [weights, along], f"{name}/sum", keepdims=1)
    _add_guard(builder, name, length_float, max_side)
    return (
        builder.add_node("Cast", [weights], f"{name}/whole", to=TensorProto.INT32),
        builder.add_node("Cast", [sums], f"{name}/whole_sum", to=TensorProto.INT32),
    )


def _add_guard(builder: GraphBuilder, name: str, length: str, max_side: int) -> None:
    """1 for sides that are taken, NaN for longer ones: no wrong picture goes on without a word."""
    limit = builder.add_constant(f"{name}.max_side", np.array(max_side, np.float32))
    is_long = builder.add_node("Greater", [length, limit], f"{name}/too_long")
    nan = builder.add_constant(f"{name}.nan", np.array(np.nan, np.float32))
    good = builder.add_constant(f"{name}.good", np.array(1, np.float32))
    builder.add_node("Where", [is_long, nan, good], f"{name}/guard")


def _add_division(builder: GraphBuilder, name: str, dividend: str, divisor: str) -> tuple[str, str]:
    """One step of a long division in the base 2^11: the digit, and the remainder."""
    base = builder.add_constant(f"{name}.base", np.array(DIGIT, np.int32))
    scaled = builder.add_node("Mul", [dividend, base], f"{name}/scaled")
    digit = builder.add_node("Div", [scaled, divisor], f"{name}/digit")
    used = builder.add_node("Mul", [digit, divisor], f"{name}/used")
    return digit, builder.add_node("Sub", [scaled, used], f"{name}/rest")
