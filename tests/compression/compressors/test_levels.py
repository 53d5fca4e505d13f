"""Detection of the levels that weights lie on, whatever the scale of each channel; needs no NNI."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from nas.compression.nni.low_bit import coarsest_grid, to_low_bit_layer

CHANNELS = st.lists(st.lists(st.integers(-7, 7), min_size=9, max_size=9), min_size=1, max_size=6)


@given(levels=CHANNELS, exponent=st.floats(-6, 3))
@settings(max_examples=200, deadline=None)
def test_the_step_is_the_greatest_common_divisor(levels: list[list[int]], exponent: float) -> None:
    whole = np.array(levels)
    scales = 10.0**exponent * (1 + np.arange(len(levels)))
    weight = torch.from_numpy((whole * scales[:, None]).astype(np.float32)).reshape(-1, 1, 3, 3)
    grid = coarsest_grid(weight, max_level=7)
    assert grid is not None
    divisors = np.maximum(np.gcd.reduce(whole, axis=1), 1)
    np.testing.assert_array_equal(grid[0].flatten(1).numpy(), whole // divisors[:, None])
    used = whole.any(1)
    np.testing.assert_allclose(grid[1].numpy()[used], (scales * divisors)[used], rtol=1e-5)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_weights_off_any_grid_give_none(seed: int) -> None:
    weight = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(seed))
    assert coarsest_grid(weight, max_level=7) is None


@pytest.mark.parametrize(("method", "levels"), [("dorefa", range(-7, 8)), ("bnn", (-1, 1))])
def test_a_stored_convolution_computes_the_same(method: str, levels: range | tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    weight = rng.choice(np.array(levels), (5, 3, 3, 3)) * rng.uniform(0.01, 2, (5, 1, 1, 1))
    conv.weight.data.copy_(torch.from_numpy(weight))
    images = torch.rand(2, 3, 9, 9)
    layer = to_low_bit_layer(conv, method)
    assert layer is not None
    with torch.no_grad():
        torch.testing.assert_close(layer(images), conv(images))
        torch.testing.assert_close(
            layer(images), functional.conv2d(images, torch.from_numpy(weight).float(), conv.bias, stride=2, padding=1)
        )


def test_a_float_convolution_is_not_stored() -> None:
    torch.manual_seed(0)
    assert to_low_bit_layer(nn.Conv2d(3, 5, 3), "dorefa") is None
    assert to_low_bit_layer(nn.Conv2d(3, 5, 3), "bnn") is None
