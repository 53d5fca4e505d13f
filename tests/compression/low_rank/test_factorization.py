"""Decompositions against numpy's singular values, and factorised layers against the layers that they replace."""

import sys

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.compression.low_rank.factorization import (
    CP,
    TUCKER,
    build_factorized,
    cp_decomposition,
    cp_rank,
    factorize_weights,
    require_tensorly,
    truncated_svd,
    tucker2_decomposition,
)
from nas.errors import MissingPackageError

Array = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)


def normal(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def tail(matrix: Array, rank: int) -> float:
    """The error of the best matrix of this rank: the root sum of squares of the omitted singular values."""
    return float(np.sqrt((np.linalg.svd(matrix, compute_uv=False)[rank:] ** 2).sum()))


def rebuilt(factors: dict[str, Array]) -> Array:
    core = factors["core"]
    if "expand" in factors:
        core = np.einsum("or,rixy->oixy", factors["expand"], core)
    return np.einsum("orxy,ri->oixy", core, factors["reduce"]) if "reduce" in factors else core


def filled(layer: nn.Module, *, share: float, decomposition: str = TUCKER, multiple: int = 1) -> nn.Sequential:
    parts = build_factorized(layer, rank_ratio=share, decomposition=decomposition, channel_multiple=multiple)
    assert parts is not None
    factorize_weights(parts, layer, decomposition=decomposition, seed=0)  # type: ignore[arg-type]
    return parts


@given(out=st.integers(1, 12), inner=st.integers(1, 12), rank=st.integers(1, 12), seed=seeds)
def test_the_error_of_svd_is_the_tail_of_the_singular_values(out: int, inner: int, rank: int, seed: int) -> None:
    matrix = normal(out, inner, seed=seed)
    rank = min(rank, out, inner)
    down, up = truncated_svd(matrix, rank=rank)
    assert down.shape == (rank, inner)
    assert up.shape == (out, rank)
    assert np.linalg.norm(matrix - up @ down) == pytest.approx(tail(matrix, rank), abs=1e-9)
    assert np.allclose((down**2).sum(1), (up**2).sum(0))  # both carry the same scale


@settings(max_examples=30, deadline=None)
@given(ranks=st.tuples(st.integers(1, 7), st.integers(1, 5)), seed=seeds)
def test_tucker_error_lies_between_the_tails_of_its_unfoldings(ranks: tuple[int, int], seed: int) -> None:
    """Each tail alone is a lower bound; the root of their sum of squares bounds the truncation that the sweeps start
    from."""
    weight = normal(7, 5, 3, 3, seed=seed)
    factors = tucker2_decomposition(weight, ranks=ranks)
    error = np.linalg.norm(weight - rebuilt(factors))
    tails = [tail(weight.reshape(7, -1), ranks[0]), tail(weight.transpose(1, 0, 2, 3).reshape(5, -1), ranks[1])]
    assert max(tails) - 1e-9 <= error <= np.hypot(*tails) + 1e-9
    assert ("expand" in factors) == (ranks[0] < 7)
    assert ("reduce" in factors) == (ranks[1] < 5)


@settings(max_examples=10, deadline=None)
@given(rank=st.integers(1, 5), seed=seeds)
def test_tucker_is_nearly_as_good_as_cp_of_its_rank(rank: int, seed: int) -> None:
    """CP is Tucker-2 with a special core, and truncation is within a factor of sqrt(2) of the best Tucker-2."""
    weight = normal(7, 5, 3, 3, seed=seed)
    out, inner, window = cp_decomposition(weight, rank=rank, seed=0)
    special = np.einsum("or,ir,wr->oiw", out, inner, window).reshape(weight.shape)
    free = rebuilt(tucker2_decomposition(weight, ranks=(rank, rank)))
    assert np.linalg.norm(weight - free) <= np.sqrt(2) * np.linalg.norm(weight - special) + 1e-9


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_cp_finds_a_tensor_of_low_rank_and_spreads_its_scale(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = [np.linalg.qr(rng.normal(size=(n, 2)))[0] * (3, 1) for n in (8, 6, 9)]
    weight = np.einsum("or,ir,wr->oiw", *true).reshape(8, 6, 3, 3)
    factors = cp_decomposition(weight, rank=2, seed=0)
    rest = weight - np.einsum("or,ir,wr->oiw", *factors).reshape(weight.shape)
    assert np.linalg.norm(rest) < 0.05 * np.linalg.norm(weight)
    norms = [np.linalg.norm(factor, axis=0) for factor in factors]
    assert np.allclose(norms[0], norms[1])
    assert np.allclose(norms[0], norms[2])


LAYERS = {
    "1x1": nn.Conv2d(12, 8, 1),
    "1x1 stride": nn.Conv2d(12, 8, 1, stride=2, bias=False),
    "linear": nn.Linear(12, 8),
    "3x3": nn.Conv2d(12, 8, 3, padding=1),
    "3x3 stride": nn.Conv2d(12, 8, 3, stride=2, padding=1, bias=False),
    "5x5 dilation": nn.Conv2d(8, 12, 5, dilation=2, padding=4),
    "3x3 same": nn.Conv2d(8, 8, 3, padding="same"),
    "one channel": nn.Conv2d(1, 8, 3),
}


@pytest.mark.parametrize("decomposition", [TUCKER, CP])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_whose_weight_has_low_rank_is_replaced_exactly(kind: str, decomposition: str) -> None:
    """The weight has exactly the requested rank, so outputs must agree, with strides, paddings and biases."""
    torch.manual_seed(0)
    layer = LAYERS[kind]
    with torch.no_grad():
        flat = layer.weight.flatten(1)
        layer.weight.copy_((flat[:, :1] @ torch.randn(1, flat.shape[1])).view_as(layer.weight))
        if layer.weight.ndim == 4:  # rank 1 in every mode
            window = torch.randn(layer.weight.shape[2:])
            layer.weight.copy_(torch.randn(len(flat), layer.weight.shape[1])[:, :, None, None] * window)
            layer.weight.copy_(layer.weight[:, :1] * torch.randn(1, layer.weight.shape[1], 1, 1))
    parts = filled(layer, share=0.5, decomposition=decomposition)
    x = torch.randn(2, layer.weight.shape[1], *([] if kind == "linear" else [11, 11]))
    with torch.no_grad():
        assert torch.allclose(parts(x), layer(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layer", [nn.Conv2d(8, 8, 1), nn.Linear(8, 8), nn.Conv2d(1, 8, 3)], ids=str)
def test_full_rank_is_exact(layer: nn.Module) -> None:
    """On a grid of 8, three quarters of 8 channels round to all 8; one channel is the minimum."""
    torch.manual_seed(1)
    parts = build_factorized(layer, rank_ratio=0.75, decomposition=TUCKER, channel_multiple=8)
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
        assert parts is None  # there is nothing to take away
        return
    assert parts is not None
    factorize_weights(parts, layer, decomposition=TUCKER, seed=0)  # type: ignore[arg-type]
    x = torch.randn(2, 8, *([] if isinstance(layer, nn.Linear) else [5, 5]))
    with torch.no_grad():
        assert torch.allclose(parts(x), layer(x), atol=1e-5)


@pytest.mark.parametrize("decomposition", [TUCKER, CP])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_zero_layer_becomes_layers_that_can_still_be_trained(kernel: int, decomposition: str) -> None:
    layer = nn.Conv2d(8, 8, kernel, padding=kernel // 2)
    nn.init.zeros_(layer.weight)
    parts = filled(layer, share=0.5, decomposition=decomposition)
    x = torch.randn(2, 8, 5, 5)
    assert torch.allclose(parts(x), layer(x))
    parts(x).square().sum().backward()
    assert bool(parts[-1].weight.grad.any())  # type: ignore[union-attr]


@pytest.mark.parametrize("rank", [1, 8, 24, 60])
@pytest.mark.parametrize("scale", [1.0, 1e-20])
def test_cp_survives_ranks_beyond_that_of_the_tensor(rank: int, scale: float) -> None:
    weight = scale * np.einsum("o,i,xy->oixy", normal(8, seed=0), normal(8, seed=1), normal(3, 3, seed=2))
    out, inner, window = cp_decomposition(weight, rank=rank, seed=0)
    rest = weight - np.einsum("or,ir,wr->oiw", out, inner, window).reshape(weight.shape)
    assert np.linalg.norm(rest) < 1e-4 * np.linalg.norm(weight)


def test_ranks_lie_on_the_grid_and_parts_are_named() -> None:
    layer = nn.Conv2d(48, 64, 3)
    tuckered = build_factorized(layer, rank_ratio=0.5, decomposition=TUCKER, channel_multiple=16)
    assert tuckered is not None
    assert {n: tuple(p.weight.shape) for n, p in tuckered.named_children()} == {  # type: ignore[union-attr, arg-type]
        "reduce": (32, 48, 1, 1), "core": (32, 32, 3, 3), "expand": (64, 32, 1, 1),
    }  # fmt: skip
    parallel = build_factorized(layer, rank_ratio=0.5, decomposition=CP, channel_multiple=16)
    rank = cp_rank(layer.weight.shape, rank_ratio=0.5, channel_multiple=16)
    assert parallel is not None
    assert {n: tuple(p.weight.shape) for n, p in parallel.named_children()} == {  # type: ignore[union-attr, arg-type]
        "reduce": (rank, 48, 1, 1), "core": (rank, 1, 3, 3), "expand": (64, rank, 1, 1),
    }  # fmt: skip


@given(out=st.integers(8, 256), inner=st.integers(8, 256), share=st.sampled_from([0.25, 0.5]))
def test_the_cp_ratio_is_the_share_of_weights(out: int, inner: int, share: float) -> None:
    rank = cp_rank(torch.Size((out, inner, 3, 3)), rank_ratio=share, channel_multiple=1)
    assert rank * (out + inner + 9 - 2) == pytest.approx(share * out * inner * 9, abs=out + inner + 7)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d(8),
    ],
)
def test_other_layers_cannot_be_factorised(layer: nn.Module) -> None:
    assert build_factorized(layer, rank_ratio=0.25, decomposition=TUCKER, channel_multiple=1) is None


def test_without_tensorly_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorly", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'fer-nas\[lowrank\]'"):
        require_tensorly()
    with pytest.raises(MissingPackageError, match="need tensorly"):
        filled(nn.Conv2d(8, 8, 3), share=0.5)
    filled(nn.Conv2d(8, 8, 1), share=0.5)  # a matrix needs numpy only
