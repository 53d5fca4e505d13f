"""Opaque region: a part of a net that is kept as it is, its channels fixed and its arithmetic in float.

It holds a module, or a function with its constants, that neither the pruner nor the quantiser follows. The writer takes
its own form of the module where it has one, else torch's exporter (`nas.onnx_export.onnx_opaque_region`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from search_spaces._leaf import Leaf

OutputShape = tuple[int | None, ...]
"""Shape for any batch; None where the size depends on the batch."""


@dataclass(frozen=True)
class Slot:
    """Place of an input tensor in a call's arguments."""

    index: int


@dataclass(frozen=True)
class Held:
    """Place of a tensor of the region itself in a call's arguments."""

    name: str


@dataclass(frozen=True)
class HeldRow(Held):
    """Place of a tensor of the region itself that has one row for each image, of which it holds the first.

    Attributes:
        index: of the input whose first axis tells the batch size.
        rows: size of that input's first axis for one image.
    """

    index: int = 0
    rows: int = 1


@dataclass(frozen=True)
class BatchSize:
    """Place of a multiple of the batch size, which the first axis of an input tells.

    Attributes:
        factor: the multiple.
        index: of the input.
        rows: size of that input's first axis for one image.
    """

    factor: int
    index: int = 0
    rows: int = 1


class Call(nn.Module):
    """A function, or a tensor's method by name, as a module."""

    def __init__(self, function: Callable[..., Any] | str) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        if isinstance(self.function, str):
            return getattr(args[0], self.function)(*args[1:], **kwargs)
        return self.function(*args, **kwargs)


class Region(Leaf):
    """An opaque region with one output.

    Args:
        inner: the module.
        output_shape: shape of the output.
        args: arguments of the call; `Slot`, `Held`, `HeldRow` and `BatchSize` mark what is filled in.
        kwargs: further arguments, likewise.
        pick: which item of a tuple is the output; None where the module returns a tensor.
        held: tensors of the region by name, parameters or constants.
        fixed_inputs: indices of inputs that have the same first axis for any batch, such as a table of biases.
    """

    def __init__(
        self, inner: nn.Module, *, output_shape: OutputShape, args: tuple[Any, ...] = (Slot(0),),
        kwargs: dict[str, Any] | None = None, pick: int | None = None, held: dict[str, Tensor] | None = None,
        fixed_inputs: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        super().__init__()
        self.inner, self.output_shape, self.pick = inner, output_shape, pick
        self.arguments, self.keywords, self.fixed_inputs = args, kwargs or {}, fixed_inputs
        for name, tensor in (held or {}).items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    @property
    def output_width(self) -> int:
        """Channels of the output: the size of axis 1, or 1 where there is none."""
        return int(self.output_shape[1] or 1) if len(self.output_shape) > 1 else 1

    @property
    def is_plain_call(self) -> bool:
        """Whether the module is called with one tensor and returns one."""
        return self.arguments == (Slot(0),) and not self.keywords and self.pick is None

    def forward(self, *inputs: Tensor) -> Tensor:
        """`output_shape`."""

        def fill(value: Any) -> Any:
            if isinstance(value, Slot):
                return inputs[value.index]
            if isinstance(value, HeldRow):
                row: Tensor = getattr(self, value.name)
                return row.expand(inputs[value.index].shape[0] // value.rows, *row.shape[1:])
            if isinstance(value, Held):
                return getattr(self, value.name)
            if isinstance(value, BatchSize):
                return inputs[value.index].shape[0] // value.rows * value.factor
            return value

        result = self.inner(*map_tree(self.arguments, fill), **map_tree(self.keywords, fill))
        output: Tensor = result if self.pick is None else result[self.pick]
        return output


def map_tree(tree: Any, function: Callable[[Any], Any]) -> Any:
    """The function on each leaf, in plain containers: torch.export takes fx's immutable lists for user types."""
    if isinstance(tree, dict):
        return {key: map_tree(value, function) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)) and type(tree).__name__ not in ("Size",):
        values = [map_tree(value, function) for value in tree]
        return values if isinstance(tree, list) else tuple(values)
    if isinstance(tree, slice):
        return slice(*(map_tree(part, function) for part in (tree.start, tree.stop, tree.step)))
    return function(tree)
