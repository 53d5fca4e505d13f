"""First and last modules of every network, `prepare`, `stem` and `head`, and the genes that all spaces share."""

from functools import cache

from torch import nn

from search_spaces._attention import ATTENTION_NAMES
from search_spaces._base import Choice
from search_spaces._leaf import Normalise
from search_spaces._ops import ACTIVATIONS, conv_bn_act, named_sequential
from search_spaces._work import Workload, activation_workload, layer_workload, memory_bound_workload, sum_workloads

SHARED_CHOICES = (
    Choice(name="stem_stride", options=(1, 2)),
    Choice(name="input_size", options=(40, 48, 64)),
    Choice(name="activation", options=tuple(ACTIVATIONS)),
    Choice(name="attention", options=ATTENTION_NAMES),
)


def make_preprocessing(*, size: tuple[int, int], input_size: int) -> nn.Sequential:
    """Pixels [N, C, *size] in 0..255 to [N, C, input_size, input_size] in about -2..2; no resize at equal sizes."""
    target = (input_size, input_size)
    resize = None if size == target else nn.Upsample(target, mode="bilinear", align_corners=False)
    return named_sequential(resize=resize, normalise=Normalise())


def make_stem(channels: int, width: int, *, stride: int, activation: str) -> nn.Sequential:
    """The first convolution, 3x3, from the image's channels to `width`."""
    return conv_bn_act(channels, width, 3, stride=stride, activation=activation)


def make_head(width: int, classes: int) -> nn.Sequential:
    """Global average pooling and one linear layer: [N, width, H, W] to logits [N, classes]."""
    return named_sequential(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(width, classes))


def input_workload(
    input_shape: tuple[int, int, int],
    *,
    input_size: int,
    stem_width: int,
    stem_stride: int,
    activation: str,
) -> tuple[dict[str, Workload], int]:
    """Workload of `prepare` and `stem`, and the height of the stem's output."""
    channels, *size = input_shape
    out = -(-input_size // stem_stride)
    stem = layer_workload(9, channels, stem_width, input_size**2, out**2)
    works = {
        "prepare": _preprocessing_workload(channels, (size[0], size[1]), input_size),
        "stem": sum_workloads([stem, activation_workload(activation, stem_width, out**2)]),
    }
    return works, out


@cache
def _preprocessing_workload(channels: int, size: tuple[int, int], input_size: int) -> Workload:
    pixels = input_size**2
    resize = memory_bound_workload(channels, channels, size[0] * size[1], pixels)
    normalise = memory_bound_workload(channels, channels, pixels, pixels)
    return normalise if size == (input_size, input_size) else sum_workloads([resize, normalise])


@cache
def head_workload(width: int, pixels: int, classes: int) -> Workload:
    """Workload of `head` on a map of so many pixels."""
    return sum_workloads([memory_bound_workload(width, width, pixels, 1), layer_workload(1, width, classes, 1, 1)])


def round_to_multiple(widths: tuple[int, ...], multiple: int) -> tuple[int, ...]:
    """Each width rounded to the nearest multiple, at least one; ascending, without duplicates."""
    return tuple(sorted({max(1, round(w / multiple)) * multiple for w in widths}))
