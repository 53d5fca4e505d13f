"""Proof on random weights: it sees a fault that the weights as they come hide."""

import pytest
import torch
from torch import Tensor, nn

from nas.errors import ExportError
from nas.onnx_export.rewrite_check import check_same_logits, probe_images, randomised


class Silent(nn.Module):
    """A residual branch behind a norm whose gain is 0, as ResNets begin; the axis of its softmax is a parameter."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.conv, self.norm, self.axis = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), axis
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return (x + self.norm(torch.softmax(x, self.axis) * x)).mean((2, 3))


def test_random_weights_show_what_a_gain_of_zero_hides() -> None:
    images = probe_images((1, 12, 12))
    right, wrong = Silent(3).eval(), Silent(1).eval()
    wrong.load_state_dict(right.state_dict())
    with torch.inference_mode():
        check_same_logits(right(images), wrong(images), what="the wrong net")
        with pytest.raises(ExportError, match="the wrong net must compute what the net does"):
            check_same_logits(randomised(right)(images), randomised(wrong)(images), what="the wrong net")


def test_randomised_leaves_the_net_and_moves_every_tensor() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    copied = randomised(net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    norm = copied[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert not ((tensor == 0) | (tensor == 1)).any()
    assert torch.equal(randomised(net)[0].weight, copied[0].weight)


def test_other_shapes_and_nan_are_rejected() -> None:
    with pytest.raises(ExportError, match=r"must give logits \[2, 3\], but gives \[2, 4\]"):
        check_same_logits(torch.ones(2, 3), torch.ones(2, 4), what="the file")
    with pytest.raises(ExportError, match="differ by nan"):
        check_same_logits(torch.ones(2, 3), torch.full((2, 3), torch.nan), what="the file")
