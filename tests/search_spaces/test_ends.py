"""Preprocessing, stem and head, which all networks share."""

import pytest
import torch
from torch import nn

from search_spaces._ends import make_head, make_preprocessing, round_to_multiple


def test_pixels_are_centred_and_scaled() -> None:
    net = make_preprocessing(size=(48, 48), input_size=48)
    assert [name for name, _ in net.named_children()] == ["normalise"]
    pixels = torch.tensor([0.0, 127.5, 255.0]).reshape(3, 1, 1, 1).expand(3, 1, 48, 48)
    assert net(pixels)[:, 0, 0, 0].tolist() == [-1.9921875, 0.0, 1.9921875]


def test_resizing_to_half_averages_squares_of_four_pixels() -> None:
    image = torch.rand(1, 3, 96, 96) * 255
    expected = (nn.functional.avg_pool2d(image, 2) - 127.5) / 64
    assert torch.allclose(make_preprocessing(size=(96, 96), input_size=48)(image), expected, atol=1e-5)


def test_the_head_is_the_spatial_mean_and_one_linear_layer() -> None:
    net = make_head(6, 4)
    x = torch.randn(2, 6, 3, 5)
    linear = net.get_submodule("linear")
    assert torch.allclose(net(x), x.mean((2, 3)) @ linear.weight.T + linear.bias, atol=1e-6)


@pytest.mark.parametrize(
    ("multiple", "expected"),
    [(1, (8, 12, 48)), (4, (8, 12, 48)), (8, (8, 16, 48)), (16, (16, 48)), (32, (32, 64)), (64, (64,))],
)
def test_widths_are_rounded_to_the_nearest_multiple(multiple: int, expected: tuple[int, ...]) -> None:
    assert round_to_multiple((8, 12, 48), multiple) == expected
