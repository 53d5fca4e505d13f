"""Channel attention against its formula, computed channel by channel."""

import pytest
import torch

from search_spaces._attention import EfficientChannelAttention, SqueezeExcite, make_attention


def test_eca_is_a_convolution_of_length_three_over_the_channel_means() -> None:
    module = EfficientChannelAttention()
    x = torch.randn(2, 6, 5, 4)
    k = module.conv.weight.flatten()
    means = torch.nn.functional.pad(x.mean((2, 3)), (1, 1))  # [N, C + 2]
    gates = torch.stack([torch.sigmoid((means[:, c : c + 3] * k).sum(1)) for c in range(6)], dim=1)
    assert torch.allclose(module(x), x * gates[:, :, None, None], atol=1e-6)
    assert sum(p.numel() for p in module.parameters()) == 3


def test_squeeze_and_excitation_is_two_linear_layers_over_the_channel_means() -> None:
    module = SqueezeExcite(8)
    x = torch.randn(2, 8, 5, 4)
    hidden = torch.relu(x.mean((2, 3)) @ module.down.weight[:, :, 0, 0].T + module.down.bias)
    gates = torch.sigmoid(hidden @ module.up.weight[:, :, 0, 0].T + module.up.bias)
    assert torch.allclose(module(x), x * gates[:, :, None, None], atol=1e-6)
    assert sum(p.numel() for p in module.parameters()) == 2 * 8 * 2 + 2 + 8


@pytest.mark.parametrize("bias", [True, False])
def test_published_networks_set_inner_width_bias_and_gate(bias: bool) -> None:
    module = SqueezeExcite(16, 3, bias=bias, gate_layer=torch.nn.Hardsigmoid)
    assert module.down.weight.shape == (3, 16, 1, 1)
    names = ("down.weight", "down.bias", "up.weight", "up.bias") if bias else ("down.weight", "up.weight")
    assert tuple(module.state_dict()) == names
    x = torch.randn(2, 16, 5, 4)
    hidden = torch.relu(module.down(x.mean((2, 3), keepdim=True)))
    assert torch.allclose(module(x), x * torch.nn.functional.hardsigmoid(module.up(hidden)), atol=1e-6)


def test_names_of_attention_modules() -> None:
    assert make_attention("none", 8) is None
    with pytest.raises(ValueError, match="attention must be one of none, se, eca, but got 'cbam'"):
        make_attention("cbam", 8)
