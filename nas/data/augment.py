"""Augmentation of a batch of images: drawn and applied for all images at once, on the device of the batch.

One affine resampling does flip, shift, rotation and scale together: resampling once blurs once and costs once. Then
follow brightness and contrast, and one erased rectangle (Random Erasing, https://arxiv.org/abs/1708.04896), filled with
the image's mean instead of noise, because a hand or a scarf is a flat patch at 48 pixels.

Drawing and applying are separate, so that the same change of an image can be made twice: once for a teacher, and once
for its student (`nas.distillation.views`).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Strength of each change. All zeros change nothing.

    Attributes:
        flip_probability: probability of a horizontal mirror.
        shift: largest shift along each axis, as a share of the image's side; rounded to whole pixels.
        rotate_degrees: largest rotation in degrees, either way.
        scale: largest zoom, as a share, in or out.
        brightness: largest offset, as a share of 255.
        contrast: largest change of contrast, as a share.
        erase_probability: probability that a rectangle of 2 to 20 % of the area is erased.
        min_crop: smallest side of a square crop at a random place, as a share of the image's side, resized back; it
            takes the place of shift and scale, and nothing beyond the border is seen. 1 turns crops off.
    """

    flip_probability: float = 0.0
    shift: float = 0.0
    rotate_degrees: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erase_probability: float = 0.0
    # Not in the repr, which is part of the names of the teachers' stored answers and of stored trainings.
    min_crop: float = field(default=1.0, repr=False)

    @property
    def moves(self) -> bool:
        """Whether pixels change their place."""
        return bool(self.flip_probability or self.shift or self.rotate_degrees or self.scale or self.min_crop < 1)

    @property
    def lights(self) -> bool:
        """Whether brightness or contrast change."""
        return bool(self.brightness or self.contrast)


MILD = Augmentation(flip_probability=0.5, shift=1 / 12, rotate_degrees=5, scale=0.05, brightness=0.1, contrast=0.1)
MEDIUM = Augmentation(
    flip_probability=0.5,
    shift=1 / 12,
    rotate_degrees=10,
    scale=0.1,
    brightness=0.15,
    contrast=0.2,
    erase_probability=0.15,
)
MIN_CROP = 42 / 48
"""Smallest random crop of a face of 48 pixels."""
STRONG = Augmentation(
    flip_probability=0.5,
    shift=1 / 12,
    rotate_degrees=12,
    scale=0.15,
    brightness=0.2,
    contrast=0.3,
    erase_probability=0.25,
)


@dataclass(frozen=True)
class Draws:
    """Numbers 0..1, uniform, from which the changes of N images follow. All float32.

    Attributes:
        affine: [5, N]: flip, rotation, scale, shift in x, shift in y.
        light: [2, N]: contrast, brightness.
        hole: [5, N]: area, aspect, whether there is one, its place in y, its place in x.
    """

    affine: Tensor
    light: Tensor
    hole: Tensor

    @classmethod
    def of(cls, n_images: int, augmentation: Augmentation, generator: torch.Generator) -> "Draws":
        """Fresh numbers; none are drawn for what the augmentation leaves out, whose tensors are [0, N]."""

        def uniform(count: int, *, is_used: bool) -> Tensor:
            shape = (count, n_images)
            device = generator.device
            return torch.rand(shape, generator=generator, device=device) if is_used else torch.empty(0, n_images)

        return cls(
            affine=uniform(5, is_used=augmentation.moves),
            light=uniform(2, is_used=augmentation.lights),
            hole=uniform(5, is_used=bool(augmentation.erase_probability)),
        )


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """A changed copy of the images; each image is changed independently.

    Args:
        images: [N, C, H, W] float32, pixel values 0..255.
        augmentation: strength of each change.
        generator: the only source of randomness, on the images' device.

    Returns:
        [N, C, H, W] float32, 0..255, contiguous.
    """
    return apply_draws(images, augmentation, Draws.of(len(images), augmentation, generator))


def apply_draws(images: Tensor, augmentation: Augmentation, draws: Draws) -> Tensor:
    """The images [N, C, H, W] float32, 0..255, changed as the numbers say; see `augment`."""
    if augmentation.moves:
        images = _affine(images, augmentation, draws.affine)
    if augmentation.lights:
        images = _jitter_brightness(images, augmentation, draws.light)
    if augmentation.erase_probability:
        images = _random_erase(images, augmentation.erase_probability, draws.hole)
    return images


def _affine(images: Tensor, augmentation: Augmentation, u: Tensor) -> Tensor:
    height, width = images.shape[2:]
    side = 1 - 2 * (u[0] < augmentation.flip_probability).float()
    angle = torch.deg2rad((2 * u[1] - 1) * augmentation.rotate_degrees)
    zoom = 1 + (2 * u[2] - 1) * augmentation.scale
    # Whole pixels: a shift alone then resamples without blur. grid_sample has 2 units to a side.
    dx = ((2 * u[3] - 1) * augmentation.shift * width).round() * (2 / width)
    dy = ((2 * u[4] - 1) * augmentation.shift * height).round() * (2 / height)
    if augmentation.min_crop < 1:
        zoom = 1 - u[2] * (1 - augmentation.min_crop)
        dx, dy = (2 * u[3] - 1) * (1 - zoom), (2 * u[4] - 1) * (1 - zoom)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    # The grid holds the source of each output pixel, in -1..1. The affine map is the sum of a row part and a column
    # part; adding the two is ten times as fast on a CPU as the matrix product of affine_grid, whose inner size is 3.
    x, y = _pixel_centres(width, images.device), _pixel_centres(height, images.device)
    across = torch.stack([side * cos, side * sin], 1)[:, None, None] * x[:, None]  # [N, 1, W, 2]
    down = (torch.stack([-sin, cos], 1)[:, None] * y[:, None] + torch.stack([dx, dy], 1)[:, None])[:, :, None]
    return functional.grid_sample(images, across + down, padding_mode="border", align_corners=False)


def _pixel_centres(count: int, device: torch.device) -> Tensor:
    return (2 * torch.arange(count, device=device) + 1) / count - 1


def _jitter_brightness(images: Tensor, augmentation: Augmentation, u: Tensor) -> Tensor:
    u = u[:, :, None, None, None] * 2 - 1
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    gain = 1 + u[0] * augmentation.contrast
    offset = mean * (1 - gain) + u[1] * (255 * augmentation.brightness)
    return torch.addcmul(offset, images, gain).clamp_(0, 255)


def _random_erase(images: Tensor, probability: float, u: Tensor) -> Tensor:
    height, width = images.shape[2:]
    area = 0.02 + 0.18 * u[0]
    aspect = torch.exp((2 * u[1] - 1) * 0.7)  # 1:2 to 2:1
    h, w = (area * aspect).sqrt() * height, (area / aspect).sqrt() * width
    h = h * (u[2] < probability)
    rows = _is_within(torch.arange(height, device=images.device), u[3] * (height - h), h)  # [N, H]
    columns = _is_within(torch.arange(width, device=images.device), u[4] * (width - w), w)  # [N, W]
    hole = (rows[:, :, None] & columns[:, None, :])[:, None]  # [N, 1, H, W]
    return torch.where(hole, images.mean(dim=(1, 2, 3), keepdim=True), images)


def _is_within(positions: Tensor, start: Tensor, length: Tensor) -> Tensor:
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])
