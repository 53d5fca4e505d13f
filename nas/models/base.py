"""What a published net is: how to build it, where it comes from, and what is known about its size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from search_spaces._ends import make_preprocessing
from search_spaces._ops import named_sequential


@dataclass(frozen=True, kw_only=True)
class PublishedSize:
    """A published number of weights, and for which form of the net it holds.

    Attributes:
        params: trainable parameters.
        input_shape: (C, H, W) of the images; the number of channels changes the stem's weights.
        classes: logits.
        options: of `ZooModel.build`.
        tolerance: relative, for figures that were published rounded; 0 where the figure is exact.
    """

    params: int
    input_shape: tuple[int, int, int]
    classes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ZooModel:
    """One published net. Stateless; `build` gives a fresh net with random weights each time.

    Promises: the net takes images [N, C, H, W], raw pixel values 0..255 as float32, to logits [N, classes]; its
    children are `prepare`, `stem`, `stage1`, `stage2`, ... and `head`, each a unit of compression, and all within are
    leaf modules, so that `torch.fx` traces it and `nas.export` writes it.

    Attributes:
        name: the word on the command line.
        make: builds the net, called with `input_shape`, `classes` and options by name.
        source: link to the paper.
        notes: where this net differs from the published one.
        published_params: facts that the tests hold the net against.
    """

    name: str
    make: Callable[..., nn.Module]
    source: str
    notes: str
    published_params: tuple[PublishedSize, ...]

    def build(self, *, input_shape: tuple[int, int, int], classes: int, **options: Any) -> nn.Module:
        """A fresh net with random weights.

        Args:
            input_shape: (C, H, W) of the images, 32 to 112 pixels; the stem has as many channels as they have.
            classes: how many logits.
            options: of this net, by name; the defaults give the net that the name stands for.

        Raises:
            TypeError: the net has no such option.
        """
        return self.make(input_shape=input_shape, classes=classes, **options)


def assemble_stages(
    input_shape: tuple[int, int, int], *, stem: nn.Module, stages: list[nn.Module], head: nn.Module
) -> nn.Module:
    """`prepare`, then `stem`, `stage1`, `stage2`, ... and `head` one after the other."""
    numbered = {f"stage{i + 1}": stage for i, stage in enumerate(stages)}
    return named_sequential(prepare=image_preprocessing(input_shape), stem=stem, **numbered, head=head)


def image_preprocessing(input_shape: tuple[int, int, int]) -> nn.Module:
    """Pixels 0..255 to about -2..2 at the images' own size; images that are not square become so at their height."""
    _, height, width = input_shape
    return make_preprocessing(size=(height, width), input_size=height)


def make_divisible(width: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, never more than 10 % below `width`: MobileNet's rule for scaled widths."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded
