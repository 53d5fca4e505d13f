"""Strided 1x1 convolutions: the same numbers in a form that torch does not crash in."""

import os
import warnings

import pytest
import torch
from torch import nn

from nas.training.cpu_kernels import is_strided_1x1, strided_1x1_workaround
from nas.training.execution import ExecutionFormat, on_device


@pytest.mark.parametrize(("stride", "size", "bias"), [(2, 12, False), (2, 13, True), ((2, 3), 12, True)])
def test_outputs_and_gradients_are_those_of_the_convolution(
    stride: int | tuple[int, int], size: int, bias: bool
) -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(6, 4, 1, stride=stride, bias=bias), torch.randn(3, 6, size, size, requires_grad=True)
    found = []
    for safe in (False, True):
        conv.zero_grad()
        x.grad = None
        if safe:
            with strided_1x1_workaround(conv):
                y = conv(x)
        else:
            y = conv(x)
        y.square().sum().backward()
        found.append((y.detach(), x.grad, conv.weight.grad.clone()))
    for plain, safely in zip(*found, strict=True):
        torch.testing.assert_close(safely, plain)
    assert "_conv_forward" not in vars(conv)


def test_only_strided_ones_are_meant() -> None:
    assert is_strided_1x1(nn.Conv2d(4, 4, 1, stride=2))
    assert not is_strided_1x1(nn.Conv2d(4, 4, 1))
    assert not is_strided_1x1(nn.Conv2d(4, 4, 3, stride=2, padding=1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_net_that_crashes_torch_2_13_learns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, on forks beside threads
        child = os.fork()
    if child == 0:  # a crash must not end the tests
        net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 1, stride=2, bias=False))
        with on_device(net, ExecutionFormat(memory_format="channels_last")):
            for _ in range(5):
                x = torch.randn(16, 1, 48, 48).contiguous(memory_format=torch.channels_last)
                net(x).square().mean().backward()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
