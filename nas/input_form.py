"""Input form of an ONNX classifier: how it takes pictures. Layout, type, colour and size, as its metadata say.

A plain file takes float32 [N, C, H, W] at the size of its network. `nas export --input` writes files that take other
forms; the property `input_form` of their metadata says which, and every reader of this package goes by it.

    {"layout": "NHWC", "dtype": "uint8", "colour": "rgb", "height": null, "width": null, "network": [1, 48, 48],
     "max_side": 4096, "pixels": "0..255"}
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

INPUT_FORM_PROPERTY = "input_form"
"""Key of the metadata property."""
UINT8, ANY_SIZE, NHWC, RGB = "uint8", "any-size", "nhwc", "rgb"
WORDS = (UINT8, ANY_SIZE, NHWC, RGB)
"""Words of `nas export --input`."""
MAX_SIDE = 4096
"""Longest side of a picture that a file of any size takes, in pixels."""
DEFAULT_LAYOUT, CHANNELS_LAST = "NCHW", "NHWC"
_COLOURS = {"grey": 1, "rgb": 3}
_DTYPES = ("float32", "uint8")


@dataclass(frozen=True, kw_only=True)
class InputForm:
    """How a file takes pictures of pixels 0..255.

    Attributes:
        layout: "NCHW" or "NHWC".
        dtype: "float32" or "uint8".
        channels: 1 for grey, 3 for red, green and blue.
        size: (height, width) of the pictures in pixels; None where any size is taken.
        network: (C, H, W) of the picture that the network inside the file sees.
    """

    layout: str = DEFAULT_LAYOUT
    dtype: str = "float32"
    channels: int
    size: tuple[int, int] | None
    network: tuple[int, int, int]

    @property
    def colour(self) -> str:
        """ "grey" or "rgb"."""
        return "rgb" if self.channels == 3 else "grey"

    @property
    def is_plain(self) -> bool:
        """Whether pictures are float32 [N, C, H, W] in the network's own size and colour."""
        return self == InputForm(channels=self.network[0], size=self.network[1:], network=self.network)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of `nas export --input` that give this form; empty for the plain one."""
        found = {
            UINT8: self.dtype == "uint8",
            ANY_SIZE: self.size is None,
            NHWC: self.layout == CHANNELS_LAST,
            RGB: self.channels != self.network[0],
        }
        return tuple(word for word, is_given in found.items() if is_given)

    @property
    def max_side(self) -> int:
        """Longest side of a picture that is taken, in pixels."""
        return max(self.size) if self.size else max_side(min(self.network[1:]))

    def dims(self, *, batch: int | str = "N", size: Sequence[int | str] | None = None) -> list[int | str]:
        """Dimensions of the input.

        Args:
            batch: first dimension.
            size: height and width where any size is taken; None gives the words "height" and "width".
        """
        height, width = self.size or size or ("height", "width")
        image = [height, width, self.channels] if self.layout == CHANNELS_LAST else [self.channels, height, width]
        return [batch, *image]

    def to_input(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Pictures [N, C, H, W] of this form's colour and size as the array that the file takes."""
        ordered = pictures.transpose(0, 2, 3, 1) if self.layout == CHANNELS_LAST else pictures
        return np.ascontiguousarray(ordered, dtype=self.dtype)

    def describe(self) -> str:
        """The form in words, such as "uint8 [N, height, width, 3], rgb, pixel values 0..255"."""
        dims = ", ".join(map(str, self.dims()))
        limit = f", sides up to {self.max_side} pixels" if self.size is None else ""
        return f"{self.dtype} [{dims}], {self.colour}, pixel values 0..255{limit}"

    def to_json(self) -> str:
        """The value of the metadata property."""
        height, width = self.size or (None, None)
        return json.dumps(
            {"layout": self.layout, "dtype": self.dtype, "colour": self.colour, "height": height, "width": width,
             "network": list(self.network), "max_side": self.max_side, "pixels": "0..255"}
        )  # fmt: skip


def max_side(network_side: int) -> int:
    """Longest side of a picture that is resized to `network_side` inside a file.

    The sums of a resize's weights, 2 side^2 / network_side, must stay below 2^20 (`nas.onnx_export.pillow_resize`).
    """
    side = MAX_SIDE
    while 2 * side * side / network_side + 2 * side >= 2**20:
        side -= 1
    return side


def requested_form(words: Sequence[str], network: tuple[int, int, int]) -> InputForm:
    """The form that words of `nas export --input` ask for.

    Args:
        words: among `WORDS`, in any order.
        network: (C, H, W) of the network's input.

    Raises:
        ValueError: a word is unknown; the message lists the known ones.
    """
    if unknown := [word for word in words if word not in WORDS]:
        raise ValueError(f"--input must be among {', '.join(WORDS)}, separated by commas, but got {unknown[0]!r}")
    return InputForm(
        layout=CHANNELS_LAST if NHWC in words else DEFAULT_LAYOUT,
        dtype="uint8" if UINT8 in words else "float32",
        channels=3 if RGB in words else network[0],
        size=None if ANY_SIZE in words else network[1:],
        network=network,
    )


def read_input_form(metadata: Mapping[str, str], dims: Sequence[int]) -> InputForm | None:
    """The input form that a file's metadata state; None where they state none.

    Args:
        metadata: the metadata properties of the file.
        dims: dimensions of its input; 0 for an open one.

    Raises:
        ValueError: the property is no such JSON, or contradicts the dimensions.
    """
    text = metadata.get(INPUT_FORM_PROPERTY)
    if text is None:
        return None
    form = _parse(text)
    expected = [d if isinstance(d, int) else 0 for d in form.dims(batch=0)]
    if list(dims[1:]) != expected[1:] or len(dims) != len(expected):
        raise ValueError(f"its metadata say that it takes {form.describe()}, but its input is {list(dims)}")
    return form


def _parse(text: str) -> InputForm:
    try:
        stated = json.loads(text)
        size = (stated["height"], stated["width"])
        form = InputForm(
            layout=stated["layout"],
            dtype=stated["dtype"],
            channels=_COLOURS[stated["colour"]],
            size=None if size == (None, None) else size,
            network=tuple(stated["network"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"its metadata property {INPUT_FORM_PROPERTY} must be the JSON of one, but is not") from None
    sides = (*form.network, *(form.size or ()))
    if (
        form.layout not in (DEFAULT_LAYOUT, CHANNELS_LAST)
        or form.dtype not in _DTYPES
        or len(form.network) != 3
        or not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 2**16 for n in sides)
        or form.network[0] not in (1, 3, form.channels)
    ):
        raise ValueError(f"its metadata property {INPUT_FORM_PROPERTY} has a value that no form has")
    return form


def derived_form(dims: Sequence[int], dtype: str) -> InputForm | None:
    """The form of a file that states none, by its dimensions; None where they do not tell it.

    Args:
        dims: of the input, 0 for an open one. [N, C, H, W] and [N, H, W, C] with one or three channels are told.
        dtype: of the input, such as "float32".
    """
    if len(dims) != 4 or dtype not in _DTYPES:
        return None
    _, second, third, fourth = dims
    if second in (1, 3):
        channels, height, width, layout = second, third, fourth, DEFAULT_LAYOUT
    elif fourth in (1, 3):
        channels, height, width, layout = fourth, second, third, CHANNELS_LAST
    else:
        return None
    if not math.prod((height, width)):
        return None
    size = (height, width)
    return InputForm(layout=layout, dtype=dtype, channels=channels, size=size, network=(channels, *size))
