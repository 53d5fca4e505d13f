"""Pre-processing of a user-defined net: from the pixels of the data to the input that the net expects.

It is part of the net, and so of the exported file: what is trained, scored and timed takes raw pixels.
"""

import logging
from collections.abc import Sequence

from torch import Tensor, nn

from nas.errors import ConfigError
from search_spaces._leaf import Concat, Normalise, PerChannel

logger = logging.getLogger(__name__)

PREPROCESSING = "prepare"
DEFAULT_MEAN, DEFAULT_STD = 127.5, 64.0
"""Mean and deviation by which pixels are normalised, as in the nets of the search spaces."""


class Preprocessing(nn.Module):
    """Pixels 0..255 [N, C, H, W] to the input that a net expects: resized, normalised, the channels repeated.

    Args:
        size: side to resize to, in pixels; None keeps the size.
        mean: subtracted from the pixels; one number, or one for each channel after the repetition.
        std: divisor of the pixels, likewise.
        repeat: copies of the channels, for grey images and a net that takes RGB.
    """

    def __init__(self, *, size: int | None, mean: PerChannel, std: PerChannel, repeat: int) -> None:
        super().__init__()
        self.resize = nn.Upsample((size, size), mode="bilinear", align_corners=False) if size else None
        self.normalise = Normalise(mean=mean, std=std)
        self.repeat = Concat() if repeat > 1 else None
        self.n_repeats = repeat
        self._is_per_channel = isinstance(mean, tuple) or isinstance(std, tuple)

    def forward(self, image: Tensor) -> Tensor:
        """Shape [N, C * repeat, size, size]."""
        if self.resize is not None:
            image = self.resize(image)
        if self._is_per_channel:
            image = self._repeated(image)
        normalised: Tensor = self.normalise(image)
        return normalised if self._is_per_channel else self._repeated(normalised)

    def _repeated(self, image: Tensor) -> Tensor:
        repeated: Tensor = image if self.repeat is None else self.repeat(*[image] * self.n_repeats)
        return repeated


def pixel_scaling(
    mean: float | Sequence[float] | None, std: float | Sequence[float] | None, *, channels: int
) -> tuple[PerChannel, PerChannel]:
    """Mean and deviation in pixel values 0..255, from values of that scale or of 0..1.

    Values are of 0..1 where none exceeds 1, as the published 0.485,0.456,0.406 and 0.229,0.224,0.225 of ImageNet; mean
    0 with deviation 1 leaves pixels 0..255 as they are.

    Args:
        mean: one value, or one for each channel; None for the default.
        std: likewise.
        channels: channels that reach the net.

    Raises:
        ConfigError: there are neither one nor `channels` values, or the two are of different scales.

    Examples:
        >>> pixel_scaling(0.5, 0.25, channels=1)
        (127.5, 63.75)
        >>> pixel_scaling((1.0, 2.0, 3.0), 64.0, channels=3)
        ((1.0, 2.0, 3.0), 64.0)
    """
    mean, std = ((value,) if isinstance(value, int | float) else value for value in (mean, std))
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) not in (1, channels):
            raise ConfigError(
                f"{name} must be one number, or one for each of the {channels} channels that reach the model, but got "
                f"{len(values)}"
            )
    scale = 255.0 if _is_unit_scale(mean, std) else 1.0
    if scale != 1:
        logger.warning("mean and std are taken as those of pixels 0..1, because none exceeds 1; pixels are 0..255 here")
    return (
        DEFAULT_MEAN if mean is None else _scaled(mean, scale),
        DEFAULT_STD if std is None else _scaled(std, scale),
    )


def _is_unit_scale(mean: Sequence[float] | None, std: Sequence[float] | None) -> bool:
    small_mean = None if mean is None else max(map(abs, mean)) <= 1 and any(mean)
    small_std = None if std is None else max(std) <= 1
    if mean is not None and not any(mean):  # 0 in both scales
        return bool(small_std) and set(std or ()) != {1.0}
    if small_mean is not None and small_std is not None and small_mean != small_std:
        raise ConfigError(
            f"mean and std must be of one scale, of pixels 0..255 or of 0..1, but got mean {_shown(mean)} and std "
            f"{_shown(std)}"
        )
    if (small_mean or small_std) and (mean is None or std is None):
        given = f"mean {_shown(mean)}" if std is None else f"std {_shown(std)}"
        raise ConfigError(
            f"mean and std must both be given where they are of pixels 0..1, but only {given} is; give the other, or "
            "values of pixels 0..255"
        )
    return bool(small_mean or small_std)


def _shown(values: Sequence[float] | None) -> str:
    return ",".join(f"{value:g}" for value in values or ())


def _scaled(values: Sequence[float], scale: float) -> PerChannel:
    scaled = tuple(value * scale for value in values)
    return scaled[0] if len(set(scaled)) == 1 else scaled
