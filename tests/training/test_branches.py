"""Branches of 3x3 convolutions: they begin and end as the same function, and the fused one is that of the sum."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.errors import StepPausedError
from nas.models.model_source import make_model
from nas.training.branches import Branches, branched, statistics_images
from search_spaces._ops import Residual, conv_bn_act, dense_conv, named_sequential, residual_conv, separable


def trained(net: nn.Module, seed: int = 0) -> nn.Module:
    """The net in eval mode, with gains, shifts and statistics as a training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for bn in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        for tensor, low, high in (
            (bn.weight, -1.5, 1.5), (bn.bias, -1, 1), (bn.running_mean, -2, 2), (bn.running_var, 0.1, 3),
        ):  # fmt: skip
            assert isinstance(tensor, Tensor)
            tensor.data.uniform_(low, high, generator=generator)
    return net.eval()


def images(n: int = 6, channels: int = 3, side: int = 9) -> Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(1))


def branch_modules(net: nn.Module) -> Iterator[Branches]:
    return (m for m in net.modules() if isinstance(m, Branches))


def is_close(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())


@pytest.mark.parametrize(
    ("width_in", "width", "stride", "has_identity"), [(3, 3, 1, True), (3, 5, 1, False), (3, 3, 2, False)]
)
def test_the_fused_convolution_equals_the_sum(width_in: int, width: int, stride: int, has_identity: bool) -> None:
    net = trained(conv_bn_act(width_in, width, 3, stride=stride, activation="relu"))
    x = images()
    with torch.no_grad(), branched(net, x):
        (branches,) = branch_modules(net)
        trained(net, seed=2)
        assert (branches.identity_bn is not None) == has_identity
        parts = [branches.bn(branches.conv(x)), branches.point_bn(branches.point(x))]
        parts += [branches.identity_bn(x)] if branches.identity_bn is not None else []
        assert min(float(part.abs().max()) for part in parts) > 0.1  # each branch counts
        expected = torch.stack(parts).sum(0).relu()

    with torch.no_grad():
        assert is_close(net(x), expected)


def test_new_branches_change_nothing_and_leave_the_modules_of_before() -> None:
    net = trained(
        named_sequential(a=dense_conv(3, 1, "relu"), b=residual_conv(3, 2, "relu"), c=separable(3, 1, "relu", kernel=3))
    )
    before, x = copy.deepcopy(net), images()
    conv = net.get_submodule("a.conv")
    with torch.no_grad(), branched(net, x):
        assert len(list(branch_modules(net))) == 2  # neither the shortcut nor the depthwise convolution
        assert is_close(net(x), before(x))

    assert net.get_submodule("a.conv") is conv
    assert [(n, t.shape) for n, t in net.state_dict().items()] == [(n, t.shape) for n, t in before.state_dict().items()]
    with torch.no_grad():
        assert is_close(net(x), before(x))


def test_statistics_behind_the_fused_convolution_are_those_of_its_outputs() -> None:
    net = trained(Residual(conv_bn_act(3, 3, 3, activation=None), activation="relu"))
    x = images(32)
    with branched(net, x):
        trained(net, seed=3)

    outputs: list[Tensor] = []
    net.get_submodule("body.conv").register_forward_hook(lambda *args: outputs.append(args[2]))
    with torch.no_grad():
        expected = net(x)
        bn = net.get_submodule("body.bn")
        assert isinstance(bn, nn.BatchNorm2d)
        assert torch.allclose(bn.get_buffer("running_mean"), outputs[0].mean((0, 2, 3)), atol=1e-5)
        assert torch.allclose(bn.get_buffer("running_var"), outputs[0].var((0, 2, 3), correction=0), rtol=1e-4)
        assert is_close(net.train()(x), expected)  # the batch's own statistics give the same


@pytest.mark.parametrize("word", ["plain_cnn:widths=(4,8),pool=False", "resnet10:width=4", "resnet18:width=4"])
def test_published_networks_are_fused_exactly(word: str) -> None:
    net = trained(make_model(word, input_shape=(1, 32, 32), classes=3))
    pixels = 255 * torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    n_3x3 = sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in net.modules())
    with torch.no_grad(), branched(net, pixels):
        assert len(list(branch_modules(net))) == n_3x3
        trained(net, seed=4)
        expected = net(pixels)

    with torch.no_grad():
        assert is_close(net(pixels), expected)


def test_what_is_not_a_dense_3x3_convolution_with_batch_norm_is_left_alone() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    rounded = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3, padding=1, bias=False))
    net = nn.Sequential(
        nn.Sequential(shared, nn.BatchNorm2d(3)),
        nn.Sequential(shared, nn.BatchNorm2d(3)),
        nn.Sequential(rounded, nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.ReLU(), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 5, padding=2, bias=False), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3, affine=False)),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3, track_running_stats=False)),
    )
    with branched(net, images()):
        assert not list(branch_modules(net))


def test_disabled_branches_and_an_interruption_leave_plain_modules() -> None:
    net = dense_conv(3, 1, "relu")
    with branched(net, images(), enabled=False):
        assert not list(branch_modules(net))
    with pytest.raises(StepPausedError, match="pause"), branched(net, images()):
        raise StepPausedError("pause")
    assert not list(branch_modules(net))


def test_images_for_statistics_are_spread_over_the_split() -> None:
    split = np.arange(1024, dtype=np.int64)[:, None, None, None].repeat(3, 1).astype(np.uint8)

    got = statistics_images(split)

    assert got.shape == (256, 3, 1, 1)
    assert got.dtype == torch.float32
    assert torch.equal(statistics_images(split[:5]), torch.from_numpy(split[:5]).float())
