"""Gradients of depthwise convolutions and on small maps: equal to torch's, and faster, as long as torch's are slow."""

import itertools
import platform
import time
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from nas.training.cpu_kernels import (
    fast_depthwise_backward,
    fast_small_map_backward,
    has_slow_backward,
    is_dense_3x3,
    keep_freed_memory,
)
from tests.training.known_faults import check_still_faulty


def conv(channels: int, kernel: int, stride: int, dilation: int, inputs: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs * channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "inputs"), list(itertools.product((3, 5, 7), (1, 2), (1, 2), (1, 2)))
)
@pytest.mark.parametrize("size", [(12, 12), (9, 7)])
def test_same_output_and_gradients_as_torch(
    kernel: int, stride: int, dilation: int, inputs: int, size: tuple[int, int]
) -> None:
    module = conv(6, kernel, stride, dilation, inputs).double()
    x = torch.randn(3, 6 * inputs, *size, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted = module(x)
    way = torch.randn(wanted.shape, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad((wanted * way).sum(), (x, module.weight))
    with fast_depthwise_backward(module):
        got = module(x)
        quick = torch.autograd.grad((got * way).sum(), (x, module.weight))
    assert torch.allclose(got, wanted)
    for a, b in zip(quick, gradients, strict=True):
        assert torch.allclose(a, b)


def test_a_bias_is_added_and_has_a_gradient() -> None:
    module = nn.Conv2d(6, 6, 5, padding=2, groups=6).double()
    assert has_slow_backward(module)
    x = torch.randn(2, 6, 9, 9, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    wanted = module(x)
    with fast_depthwise_backward(module):
        got = module(x)
    assert torch.allclose(got, wanted)
    parameters = tuple(module.parameters())
    pairs = zip(*(torch.autograd.grad(y.square().sum(), parameters) for y in (got, wanted)), strict=True)
    assert all(torch.allclose(a, b) for a, b in pairs)


def test_autocast_computes_in_bfloat16_with_fp32_gradients() -> None:
    module = conv(8, 5, 1, 1)
    x = torch.rand(2, 8, 10, 10).contiguous(memory_format=torch.channels_last)
    with fast_depthwise_backward(module), torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(x)
    assert y.dtype == torch.bfloat16
    y.float().square().mean().backward()
    quick, module.weight.grad = module.weight.grad, None
    module(x).square().mean().backward()
    assert quick is not None
    assert quick.dtype == torch.float32
    assert torch.allclose(quick, module.weight.grad, rtol=0.05, atol=0.02)  # type: ignore[arg-type]


def test_only_slow_convolutions_with_a_fast_form_are_replaced() -> None:
    assert not has_slow_backward(conv(8, 3, 1, 1)), "torch is fast here"
    assert has_slow_backward(conv(8, 3, 2, 1))
    assert has_slow_backward(conv(8, 3, 1, 2))
    assert has_slow_backward(conv(8, 5, 1, 1))
    assert has_slow_backward(conv(8, 3, 1, 1, inputs=2))
    for other in (
        nn.Conv2d(8, 8, 5, padding=2, bias=False),
        nn.Conv2d(8, 8, 5, padding=2, groups=4, bias=False),
        nn.Conv2d(8, 8, 5, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 8, (5, 3), padding=(2, 1), groups=8, bias=False),
        nn.Conv2d(8, 8, 5, padding="same", groups=8, bias=False),
        nn.Conv2d(1, 1, 3, padding=1, bias=False),
    ):
        assert not has_slow_backward(other)


def test_the_forward_method_is_restored() -> None:
    net = nn.Sequential(conv(8, 5, 1, 1), nn.Conv2d(8, 8, 3))
    with fast_depthwise_backward(net):
        assert "forward" in vars(net[0])
        assert "forward" not in vars(net[1])
    assert "forward" not in vars(net[0])


def test_torch_still_needs_the_fast_forms() -> None:
    module = conv(32, 3, 2, 1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(16, 32, 24, 24).contiguous(memory_format=torch.channels_last).requires_grad_()

    def backward_seconds(*, is_fast: bool) -> float:
        with fast_depthwise_backward(module) if is_fast else nullcontext():
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = module(x)
            begin = time.thread_time()
            y.float().sum().backward()
            return time.thread_time() - begin

    torchs, ours = (min(backward_seconds(is_fast=fast) for _ in range(5)) for fast in (False, True))
    check_still_faulty(
        torchs > 2 * ours, f"its depthwise backward takes {torchs:.2g} s, that of the workaround {ours:.2g} s"
    )


@pytest.mark.parametrize(("size", "stride"), [((5, 5), 1), ((3, 6), 1), ((10, 9), 2), ((12, 12), 2), ((1, 1), 1)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_the_gradient_on_small_maps_is_torchs(size: tuple[int, int], stride: int, has_bias: bool) -> None:
    module = nn.Conv2d(48, 10, 3, stride, padding=1, bias=has_bias).double()
    assert is_dense_3x3(module)
    x = torch.randn(3, 48, *size, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted = module(x)
    way = torch.randn(wanted.shape, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    inputs = (x, *module.parameters())
    gradients = torch.autograd.grad((wanted * way).sum(), inputs)
    with fast_small_map_backward(module):
        got = module(x)
        quick = torch.autograd.grad((got * way).sum(), inputs)
        with torch.no_grad():
            assert torch.equal(module(x), wanted)
    assert torch.allclose(got, wanted)
    assert got.grad_fn is not None
    for a, b in zip(quick, gradients, strict=True):
        assert torch.allclose(a, b)


def test_large_maps_and_other_convolutions_keep_torchs_gradient() -> None:
    module = nn.Conv2d(48, 10, 3, padding=1, bias=False)
    with fast_small_map_backward(module):
        assert "Convolution" in type(module(torch.zeros(1, 48, 7, 7)).grad_fn).__name__
        assert "SmallMap" in type(module(torch.zeros(1, 48, 6, 6)).grad_fn).__name__
    others = [nn.Conv2d(48, 48, 3), nn.Conv2d(48, 48, 3, padding=1, groups=2), nn.Conv2d(48, 48, 1)]
    assert not any(is_dense_3x3(other) for other in others)


def test_small_maps_compute_in_bfloat16_within_autocast() -> None:
    module = nn.Conv2d(48, 10, 3, padding=1)
    x = torch.rand(2, 48, 5, 5).contiguous(memory_format=torch.channels_last)
    with fast_small_map_backward(module), torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(x)
    assert y.dtype == torch.bfloat16
    y.float().square().mean().backward()
    assert module.weight.grad is not None
    assert module.weight.grad.dtype == torch.float32


def test_keeping_memory_is_understood_here_or_refused_without_harm() -> None:
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")
