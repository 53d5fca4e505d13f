"""Strided 1x1 convolutions: the same numbers in a form whose gradients do not crash torch."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from nas.training.cpu_kernels import is_strided_1x1, strided_1x1_workaround
from tests.training.known_faults import check_still_faulty

TRAINING = """
import torch
from contextlib import nullcontext
from torch import nn
from nas.training.cpu_kernels import strided_1x1_workaround

torch.set_num_threads(1)
for size in (12, 24, 40, 48):
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 1, stride=2, bias=False))
    net.to(memory_format=torch.channels_last)
    with {context}:
        for _ in range(5):
            x = torch.randn(16, 1, size, size).contiguous(memory_format=torch.channels_last)
            net(x).square().mean().backward()
"""


def exit_status(context: str) -> int:
    """Exit status of a process that trains a network with a strided 1x1 convolution; negative for a signal."""
    return subprocess.run([sys.executable, "-c", TRAINING.format(context=context)], check=False).returncode


@pytest.mark.parametrize(("stride", "size", "bias"), [(2, 12, False), (2, 13, True), ((2, 3), 12, True)])
def test_outputs_and_gradients_are_those_of_the_convolution(
    stride: int | tuple[int, int], size: int, bias: bool
) -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(6, 4, 1, stride=stride, bias=bias), torch.randn(3, 6, size, size, requires_grad=True)
    results = []
    for use_workaround in (False, True):
        conv.zero_grad()
        x.grad = None
        if use_workaround:
            with strided_1x1_workaround(conv):
                y = conv(x)
        else:
            y = conv(x)
        y.square().sum().backward()
        results.append((y.detach(), x.grad, conv.weight.grad.clone()))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)
    assert "_conv_forward" not in vars(conv)


def test_only_strided_1x1_convolutions_are_replaced() -> None:
    assert is_strided_1x1(nn.Conv2d(4, 4, 1, stride=2))
    assert not is_strided_1x1(nn.Conv2d(4, 4, 1))
    assert not is_strided_1x1(nn.Conv2d(4, 4, 3, stride=2, padding=1))


def test_a_network_that_crashes_torch_2_13_trains_with_the_workaround() -> None:
    assert exit_status("strided_1x1_workaround(net)") == 0


def test_torch_still_needs_the_workaround() -> None:
    status = exit_status("nullcontext()")
    check_still_faulty(status != 0, f"the backward pass of a strided 1x1 convolution ended with status {status}")
