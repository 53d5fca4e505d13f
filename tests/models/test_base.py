"""Scaled widths, and the pre-processing of published nets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas.models.base import image_preprocessing, make_divisible


@given(st.integers(1, 400))
def test_width_on_the_grid_is_unchanged(steps: int) -> None:
    assert make_divisible(8 * steps) == 8 * steps


@given(st.floats(0.1, 4000), st.sampled_from([4, 8, 16]))
def test_scaled_width_is_on_the_grid_and_at_most_10_percent_lower(width: float, divisor: int) -> None:
    result = make_divisible(width, divisor)
    assert result % divisor == 0
    assert result >= max(divisor, 0.9 * width)
    assert result <= max(divisor, width + 1.4 * divisor)


@pytest.mark.parametrize(
    ("width", "expected"),
    [(32 * 0.35, 16), (24 * 0.35, 8), (1280 * 0.35, 448), (16 / 4, 8), (96 / 4, 24), (240 / 4, 64), (144 / 4, 40)],
)
def test_published_widths(width: float, expected: int) -> None:
    """Widths in the reference code: MobileNetV2 x0.35, and squeeze-and-excitation of MobileNetV3-small."""
    assert make_divisible(width) == expected


def test_only_images_that_are_not_square_are_resized() -> None:
    layers = {size: [type(m) for m in image_preprocessing((1, *size))] for size in ((48, 48), (40, 32))}
    assert nn.Upsample not in layers[48, 48]
    assert nn.Upsample in layers[40, 32]
    assert image_preprocessing((1, 40, 32))(torch.zeros(1, 1, 40, 32)).shape == (1, 1, 40, 40)
