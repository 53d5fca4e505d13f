"""What every net begins and ends with: `prepare` and `stem` in front, `head` behind, and the genes they share."""

from functools import cache

from torch import nn

from search_spaces._attention import ATTENTION
from search_spaces._base import Choice
from search_spaces._leaf import Normalise
from search_spaces._ops import ACTIVATIONS, conv_bn_act, named
from search_spaces._work import Work, activated, layer_work, moving, total

SHARED_CHOICES = (
    Choice(name="stem_stride", options=(1, 2)),
    Choice(name="input_size", options=(40, 48, 64)),
    Choice(name="activation", options=tuple(ACTIVATIONS)),
    Choice(name="attention", options=ATTENTION),
)


def prepare(*, size: tuple[int, int], input_size: int) -> nn.Sequential:
    """Pixels [N, C, *size] in 0..255 to [N, C, input_size, input_size] in about -2..2; no resize where sizes agree."""
    target = (input_size, input_size)
    resize = None if size == target else nn.Upsample(target, mode="bilinear", align_corners=False)
    return named(resize=resize, normalise=Normalise())


def stem(channels: int, width: int, *, stride: int, activation: str) -> nn.Sequential:
    """The first convolution, 3x3, from the image's channels to `width`."""
    return conv_bn_act(channels, width, 3, stride=stride, activation=activation)


def head(width: int, classes: int) -> nn.Sequential:
    """Global average pooling and one linear layer: [N, width, H, W] to logits [N, classes]."""
    return named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(width, classes))


def start_work(
    input_shape: tuple[int, int, int],
    *,
    input_size: int,
    stem_width: int,
    stem_stride: int,
    activation: str,
) -> tuple[dict[str, Work], int]:
    """What `prepare` and `stem` have to do, by unit, and the height of the map that the stem puts out."""
    channels, *size = input_shape
    out = -(-input_size // stem_stride)
    stem = layer_work(9, channels, stem_width, input_size**2, out**2)
    works = {
        "prepare": _prepare_work(channels, (size[0], size[1]), input_size),
        "stem": total([stem, activated(activation, stem_width, out**2)]),
    }
    return works, out


@cache
def _prepare_work(channels: int, size: tuple[int, int], input_size: int) -> Work:
    pixels = input_size**2
    resize = moving(channels, channels, size[0] * size[1], pixels)
    normalise = moving(channels, channels, pixels, pixels)
    return normalise if size == (input_size, input_size) else total([resize, normalise])


@cache
def head_work(width: int, pixels: int, classes: int) -> Work:
    """What `head` has to do on a map of so many pixels."""
    return total([moving(width, width, pixels, 1), layer_work(1, width, classes, 1, 1)])


def on_grid(widths: tuple[int, ...], multiple: int) -> tuple[int, ...]:
    """The widths moved to the nearest multiple, at least one step, ascending, without repeats."""
    return tuple(sorted({max(1, round(w / multiple)) * multiple for w in widths}))
