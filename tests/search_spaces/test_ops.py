"""Operations of cells: closed forms of their weights, and shapes on odd maps."""

import pytest
import torch

from search_spaces._ops import ACTIVATIONS, OPS, UNSEARCHED_OPS, make_activation, make_op

C = 12

# Convolution weights alone, for stride 1 and 2. fer.md's and the papers' formulas, written out for width C.
CONV_WEIGHTS = {
    "skip": (0, C * C),
    "max_pool_3x3": (0, 0),
    "avg_pool_3x3": (0, 0),
    "sep_conv_3x3": (9 * C + C * C,) * 2,
    "sep_conv_5x5": (25 * C + C * C,) * 2,
    "sep_conv_3x3_twice": (2 * (9 * C + C * C),) * 2,
    "sep_conv_5x5_twice": (2 * (25 * C + C * C),) * 2,
    "dil_conv_3x3": (9 * C + C * C,) * 2,
    "dil_conv_5x5": (25 * C + C * C,) * 2,
    "conv_3x3": (9 * C * C,) * 2,
    "res_conv_3x3": (9 * C * C, 9 * C * C + C * C),
    "mb_conv_3x3": (2 * 3 * C * C + 9 * 3 * C,) * 2,
    "pib_conv_3x3": (3 * C * C + 3 * 9 * C,) * 2,  # as the published code holds them
    "pib_conv_5x5": (3 * C * C + 3 * 25 * C,) * 2,
    "pib_conv_3x3_depthwise": (4 * C * C + 3 * 9 * C,) * 2,
}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", [*OPS, *UNSEARCHED_OPS])
def test_weights_agree_with_the_closed_form(name: str, stride: int) -> None:
    module = make_op(name, width=C, stride=stride, activation="relu")
    weights = sum(m.weight.numel() for m in module.modules() if isinstance(m, torch.nn.Conv2d))
    assert weights == CONV_WEIGHTS[name][stride - 1]
    assert all(m.bias is None for m in module.modules() if isinstance(m, torch.nn.Conv2d))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", [*OPS, *UNSEARCHED_OPS])
def test_ops_keep_the_width_and_round_half_sizes_up(name: str, stride: int, activation: str) -> None:
    module = make_op(name, width=8, stride=stride, activation=activation)
    for h, w in ((7, 6), (1, 2)):
        out = module(torch.rand(2, 8, h, w))
        assert out.shape == (2, 8, -(-h // stride), -(-w // stride))


@pytest.mark.parametrize("name", [*OPS, *UNSEARCHED_OPS])
def test_inputs_are_not_changed_in_place(name: str) -> None:
    x = torch.randn(2, 8, 6, 6)
    before = x.clone()
    make_op(name, width=8, stride=1, activation="relu")(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("name", "reach"),
    [("sep_conv_3x3", 1), ("sep_conv_5x5", 2), ("sep_conv_3x3_twice", 2), ("dil_conv_3x3", 2), ("dil_conv_5x5", 4)],
)
def test_receptive_fields(name: str, reach: int) -> None:
    module = make_op(name, width=1, stride=1, activation="relu").eval()
    for m in module.modules():
        if isinstance(m, torch.nn.Conv2d):
            torch.nn.init.ones_(m.weight)
    x = torch.zeros(1, 1, 21, 21)
    x[0, 0, 10, 10] = 1.0
    seen = module(x)[0, 0].nonzero()
    assert seen.min() == 10 - reach
    assert seen.max() == 10 + reach


def test_average_pooling_leaves_out_the_padding() -> None:
    assert torch.equal(
        make_op("avg_pool_3x3", width=1, stride=1, activation="relu")(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 4, 4)
    )


def test_the_second_pib_convolution_reads_two_inputs_per_group() -> None:
    published = make_op("pib_conv_3x3", width=C, stride=1, activation="relu").get_submodule("mix")
    depthwise = make_op("pib_conv_3x3_depthwise", width=C, stride=1, activation="relu").get_submodule("mix")
    assert (published.in_channels, published.out_channels, published.groups) == (2 * C, C, C)
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (2 * C, 2 * C, 2 * C)


def test_a_residual_op_adds_its_input() -> None:
    module = make_op("mb_conv_3x3", width=8, stride=1, activation="relu").eval()
    torch.nn.init.zeros_(module.get_submodule("body.down.conv").weight)
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(module(x), x)


def test_ops_of_published_cells_are_not_searched() -> None:
    assert set(OPS).isdisjoint(UNSEARCHED_OPS)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"op must be one of skip, .* but got 'none'"):
        make_op("none", width=8, stride=1, activation="relu")
    with pytest.raises(ValueError, match="activation must be one of relu, hard_swish, but got 'gelu'"):
        make_activation("gelu")
