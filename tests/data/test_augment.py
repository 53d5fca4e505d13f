import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nas.data.augment import MEDIUM, MILD, STRONG, Augmentation, augment


def faces(n: int = 32, c: int = 1, size: int = 48) -> Tensor:
    return torch.rand(n, c, size, size, generator=torch.Generator().manual_seed(0)) * 255


def run(images: Tensor, strength: Augmentation, seed: int = 1) -> Tensor:
    return augment(images, strength, torch.Generator().manual_seed(seed))


def test_zero_strength_changes_nothing() -> None:
    assert torch.equal(run(faces(), Augmentation()), faces())


@pytest.mark.parametrize("strength", [MILD, MEDIUM, STRONG])
@pytest.mark.parametrize(("c", "size"), [(1, 32), (3, 48), (1, 112)])
def test_stays_in_range_and_shape_and_repeats(strength: Augmentation, c: int, size: int) -> None:
    images = faces(16, c, size)
    kept = images.clone()
    out = run(images, strength)
    assert out.shape == images.shape
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    assert out.min() >= 0
    assert out.max() <= 255
    assert torch.equal(images, kept), "the input must stay as it is"
    assert torch.equal(out, run(images, strength))
    assert not torch.equal(out, run(images, strength, seed=2))


def test_flip_mirrors_columns() -> None:
    assert torch.allclose(run(faces(), Augmentation(flip_probability=1.0)), faces().flip(3), atol=2e-2)


def test_flip_mirrors_about_half() -> None:
    images = faces(400, size=8)
    out = run(images, Augmentation(flip_probability=0.5))
    mirrored = sum(torch.allclose(o, i.flip(2), atol=1e-2) for o, i in zip(out, images, strict=True))
    kept = sum(torch.allclose(o, i, atol=1e-2) for o, i in zip(out, images, strict=True))
    assert mirrored + kept == 400
    assert 150 < mirrored < 250  # five standard deviations of a fair coin


def test_shift_is_a_whole_pixel_crop_of_the_border_padded_image() -> None:
    images, reach = faces(64, size=24), 2
    out = run(images, Augmentation(shift=reach / 24))
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    seen = set()
    for i in range(len(images)):
        fits = [
            (dy, dx)
            for dy in range(2 * reach + 1)
            for dx in range(2 * reach + 1)
            if torch.allclose(out[i], padded[i, :, dy : dy + 24, dx : dx + 24], atol=2e-2)
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) > 15, "images must shift independently, over all 25 offsets"


def test_rotation_keeps_what_is_symmetric_about_the_centre() -> None:
    axis = torch.arange(48) - 23.5
    radius = (axis[:, None] ** 2 + axis**2).sqrt()
    disc = (255 * torch.exp(-((radius / 10) ** 2)))[None, None].repeat(16, 1, 1, 1)
    assert (run(disc, Augmentation(rotate_degrees=180)) - disc).abs().max() < 2
    ramp = (axis * 5 + 127.5).expand(16, 1, 48, 48)
    assert (run(ramp, Augmentation(rotate_degrees=180)) - ramp).abs().max() > 50


def test_rotation_agrees_with_affine_grid() -> None:
    images = faces(8, size=20)
    u = torch.rand(5, 8, generator=torch.Generator().manual_seed(1))
    angle, zoom = torch.deg2rad((2 * u[1] - 1) * 30), 1 + (2 * u[2] - 1) * 0.2
    cos, sin, zero = zoom * angle.cos(), zoom * angle.sin(), torch.zeros(8)
    theta = torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(8, 2, 3)
    grid = functional.affine_grid(theta, [8, 1, 20, 20], align_corners=False)
    twin = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    assert torch.allclose(run(images, Augmentation(rotate_degrees=30, scale=0.2)), twin, atol=1e-2)


def test_scale_changes_a_ramps_slope_within_its_bound() -> None:
    ramp = ((torch.arange(48) - 23.5) * 4 + 127.5).expand(64, 1, 48, 48)
    slope = run(ramp, Augmentation(scale=0.2))[:, 0, 24, 14:34].diff(dim=1).mean(1) / 4
    assert slope.min() > 0.8 - 1e-3
    assert slope.max() < 1.2 + 1e-3
    assert slope.max() - slope.min() > 0.3


def test_a_crop_is_a_window_within_the_image_resized_back() -> None:
    # Of a ramp from pixel to pixel a window of side c has the slope c and neither end beyond the image's own.
    ramp = torch.arange(48.0).expand(400, 1, 48, 48).contiguous()

    crops = run(ramp, Augmentation(min_crop=42 / 48))[:, 0]

    slopes = (crops[:, 20, 30] - crops[:, 20, 20]) / 10
    assert 42 / 48 <= slopes.min() < 0.89 < 0.985 < slopes.max() <= 1 + 1e-5
    middle = crops[:, 20, 23:25].mean(1)  # the window's centre, which may move by half of what the window leaves
    assert ((middle - 23.5).abs() <= 24 * (1 - slopes) + 1e-3).all()
    assert (middle - 23.5).min() < -1.5
    assert (middle - 23.5).max() > 1.5
    assert torch.allclose(crops.diff(dim=1), torch.zeros(()), atol=1e-3)  # no rotation


def test_the_whole_image_as_smallest_crop_is_no_crop() -> None:
    assert not Augmentation(min_crop=1.0).moves
    assert "crop" not in repr(Augmentation(min_crop=0.9))


def test_contrast_keeps_the_mean_and_brightness_moves_it_within_its_bound() -> None:
    images = faces() * 0.2 + 100
    out = run(images, Augmentation(contrast=0.5))
    assert torch.allclose(out.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1e-2)
    gain = out.std((1, 2, 3)) / images.std((1, 2, 3))
    assert 0.5 <= gain.min() < 0.7 < 1.3 < gain.max() <= 1.5
    moved = run(images, Augmentation(brightness=0.1)).mean((1, 2, 3)) - images.mean((1, 2, 3))
    assert moved.abs().max() <= 25.5 + 1e-3
    assert moved.min() < -10 < 10 < moved.max()


def test_erase_fills_one_rectangle_with_the_mean() -> None:
    images = faces(200, c=3)
    out = run(images, Augmentation(erase_probability=1.0))
    hole = (out != images).any(1)
    rows, columns = hole.any(2), hole.any(1)
    assert torch.equal(hole, rows[:, :, None] & columns[:, None, :])
    area = hole.float().mean((1, 2))
    assert area.min() > 0.01
    assert area.max() < 0.25
    mean = images.mean((1, 2, 3))
    assert torch.allclose(
        out.masked_select(hole[:, None]), mean[:, None, None, None].expand_as(out)[hole[:, None].expand_as(out)]
    )


def test_erase_leaves_other_images_as_they_are() -> None:
    out = run(faces(400), Augmentation(erase_probability=0.25))
    erased = (out != faces(400)).flatten(1).any(1).sum()
    assert 57 < erased < 143  # five standard deviations about 100
