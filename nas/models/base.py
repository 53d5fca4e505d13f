"""Contract of a published net: its factory, its source, and its known numbers of parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from torch import nn

from search_spaces._ends import make_preprocessing
from search_spaces._ops import named_sequential


@dataclass(frozen=True, kw_only=True)
class PublishedSize:
    """A number of parameters, published or counted from the published specification, and the form that it holds for.

    Attributes:
        params: trainable parameters.
        input_shape: (C, H, W) of the images; the number of channels changes the stem's weights.
        classes: number of logits.
        options: options of `ZooModel.build`.
        tolerance: relative tolerance, for rounded figures; 0 for an exact figure.
    """

    params: int
    input_shape: tuple[int, int, int]
    classes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ZooModel:
    """One published net. Stateless; each call of `build` returns a new net with random weights.

    Promises:
    - The net maps images [N, C, H, W], raw pixel values 0..255 as float32, to logits [N, classes].
    - Its children are `prepare`, `stem`, `stage1`, `stage2`, ... and `head`; each is a unit of compression.
    - `torch.fx` traces it into leaf modules that `nas.onnx_export` can write.

    Attributes:
        name: the name on the command line.
        make: factory, called with `input_shape`, `classes` and options by name.
        source: link to the paper.
        notes: differences from the published net.
        published_params: figures that the tests compare the net with.
    """

    name: str
    make: Callable[..., nn.Module]
    source: str
    notes: str
    published_params: tuple[PublishedSize, ...]

    def build(self, *, input_shape: tuple[int, int, int], classes: int, **options: Any) -> nn.Module:
        """A new net with random weights.

        Args:
            input_shape: (C, H, W) of the images, 32 to 112 pixels; the stem takes C channels.
            classes: number of logits.
            options: options of this net, by name; the defaults give the net of this name.

        Raises:
            TypeError: the net has no such option.
            ValueError: an option has a value of another kind.
        """
        checked = {name: self._check_option(name, value) for name, value in options.items()}
        return self.make(input_shape=input_shape, classes=classes, **checked)

    def _check_option(self, name: str, value: Any) -> Any:
        """The value as the factory's annotation has it: a word for a switch would count as true."""
        factory = self.make.func if isinstance(self.make, partial) else self.make
        kind = get_type_hints(factory).get(name)
        if kind is None:
            return value  # the factory refuses it
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError:
            shown = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
            raise ValueError(f"{name} must be of {shown}, but got {value!r}") from None


def assemble_stages(
    input_shape: tuple[int, int, int], *, stem: nn.Module, stages: list[nn.Module], head: nn.Module
) -> nn.Module:
    """The sequence of `prepare`, `stem`, `stage1`, `stage2`, ... and `head`."""
    numbered = {f"stage{i + 1}": stage for i, stage in enumerate(stages)}
    return named_sequential(prepare=image_preprocessing(input_shape), stem=stem, **numbered, head=head)


def image_preprocessing(input_shape: tuple[int, int, int]) -> nn.Module:
    """Pre-processing of pixels 0..255 to about -2..2; images that are not square are resized to their height."""
    _, height, width = input_shape
    return make_preprocessing(size=(height, width), input_size=height)


def make_divisible(width: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at most 10 % below `width`: the rule for scaled widths in MobileNet's code."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded
