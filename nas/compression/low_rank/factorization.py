"""Low-rank factorisation of a layer's weight: the layers that hold the factors, and how the factors are computed.

- 1x1 convolutions and linear layers: singular value decomposition, optimal at each rank (Eckart and Young 1936).
- k x k convolutions: Tucker-2 (Kim et al. 2016, https://arxiv.org/abs/1511.06530), which is a 1x1 reduction, a k x k
  convolution on fewer channels and a 1x1 expansion; or CP (Lebedev et al. 2015, https://arxiv.org/abs/1412.6553), which
  is 1x1, depthwise, 1x1. What is different here: CP keeps both axes of the window together, so there are three kernels
  instead of four.

Which layers exist, and their widths, depends on shapes alone. A mode that keeps its full rank gets no layer.
"""

from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nas.candidate import pruned_width
from nas.errors import MissingPackageError

FactorizableLayer = nn.Conv2d | nn.Linear
Array = npt.NDArray[np.float64]

TUCKER, CP = "tucker", "cp"
TUCKER_ITERATIONS, CP_ITERATIONS = 20, 25
"""Maximum rounds of alternating least squares; further rounds gain less than one epoch of training does."""
CP_L2_PENALTY = 1e-6
"""Ridge that keeps each round solvable where the tensor's rank is below the requested one; weights have unit mean
square."""


def build_factorized(
    layer: nn.Module, *, rank_ratio: float, decomposition: str, channel_multiple: int
) -> nn.Sequential | None:
    """The untrained layers `reduce`, `core` and `expand`, as many as needed, that can hold a layer's factors.

    Args:
        layer: the layer to replace.
        rank_ratio: share of the full rank to keep, in (0, 1).
        decomposition: "tucker" or "cp", for windows larger than 1x1.
        channel_multiple: grid of the ranks, which are channel counts.

    Returns:
        The chain, or None for a module that cannot be factorised: another type, a grouped convolution, padding with
        other values than zeros, or no rank below the full one.
    """
    if isinstance(layer, nn.Linear):
        rank = pruned_width(min(layer.in_features, layer.out_features), 1 - rank_ratio, channel_multiple)
        down = nn.Linear(layer.in_features, rank, bias=False)
        return _named(reduce=down, expand=nn.Linear(rank, layer.out_features, bias=layer.bias is not None))
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or layer.padding_mode != "zeros":
        return None
    if _is_pointwise(layer):
        rank = pruned_width(min(layer.in_channels, layer.out_channels), 1 - rank_ratio, channel_multiple)
        return _named(
            reduce=_reduction_conv(layer.in_channels, rank, stride=layer.stride), expand=_expansion_conv(layer, rank)
        )
    if decomposition == CP:
        rank = cp_rank(layer.weight.shape, rank_ratio=rank_ratio, channel_multiple=channel_multiple)
        core = _core_conv(layer, rank, rank, groups=rank, bias=False)
        return _named(reduce=_reduction_conv(layer.in_channels, rank), core=core, expand=_expansion_conv(layer, rank))
    return _build_tucker2(layer, rank_ratio=rank_ratio, channel_multiple=channel_multiple)


def factorize_weights(factor_layers: nn.Sequential, layer: FactorizableLayer, *, decomposition: str, seed: int) -> None:
    """Compute the factors of a layer's weight into a chain from `build_factorized`, in place; its last layer takes the
    bias.

    Args:
        factor_layers: the chain; changed in place.
        layer: the layer that it replaces.
        decomposition: as given to `build_factorized`.
        seed: of the initial factors of CP.

    Raises:
        MissingPackageError: the window is larger than 1x1 and tensorly is not installed.
    """
    weight = layer.weight.detach().cpu().double().numpy()
    layers = dict(factor_layers.named_children())
    if not weight.any():
        factors = {name: _weight(part).detach().double().numpy() for name, part in layers.items()}
        # One zero factor makes the product zero; with all factors zero, every gradient would be zero as well.
        factors[next(reversed(layers))] *= 0
    elif isinstance(layer, nn.Linear) or _is_pointwise(layer):
        down, up = truncated_svd(weight.reshape(weight.shape[:2]), rank=len(_weight(layers["reduce"])))
        factors = {"reduce": down, "expand": up}
    elif decomposition == CP:
        factors = _cp_factors(weight, rank=len(_weight(layers["core"])), seed=seed)
    else:
        out, inner = _weight(layers["core"]).shape[:2]
        factors = tucker2_decomposition(weight, ranks=(out, inner))
    with torch.no_grad():
        for name, part in layers.items():
            _weight(part).copy_(torch.from_numpy(factors[name].reshape(_weight(part).shape)))
        if layer.bias is not None:
            factor_layers[-1].get_parameter("bias").copy_(layer.bias)


def truncated_svd(matrix: Array, *, rank: int) -> tuple[Array, Array]:
    """Factors [rank, in] and [out, rank] of a matrix [out, in]; each takes the square root of the singular values."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    roots = np.sqrt(values[:rank])
    return roots[:, None] * right[:rank], left[:, :rank] * roots


def tucker2_decomposition(weight: Array, *, ranks: tuple[int, int]) -> dict[str, Array]:
    """Tucker-2 of a weight at the given ranks of its first two modes; modes of full rank are left out.

    Args:
        weight: [out, in, k, k], not all zero.
        ranks: of the modes `out` and `in`.

    Returns:
        `core` [ranks[0], ranks[1], k, k]; `expand` [out, ranks[0]] and `reduce` [ranks[1], in] where the rank is not
        full.

    Raises:
        MissingPackageError: tensorly is not installed.
    """
    modes = [mode for mode in (0, 1) if ranks[mode] < weight.shape[mode]]
    tensorly = require_tensorly()
    with tensorly.backend_context("numpy", local_threadsafe=True):
        (core, mode_factors), _ = tensorly.decomposition.partial_tucker(
            weight,
            rank=[ranks[mode] for mode in modes],
            modes=modes,
            init="svd",
            n_iter_max=TUCKER_ITERATIONS,
            tol=1e-5,
        )
    factors: dict[int, Array] = dict(zip(modes, mode_factors, strict=True))
    named = {"core": core}
    return named | ({"expand": factors[0]} if 0 in factors else {}) | ({"reduce": factors[1].T} if 1 in factors else {})


def cp_decomposition(weight: Array, *, rank: int, seed: int) -> tuple[Array, Array, Array]:
    """CP decomposition of a weight, with equal norms of the three factors of each term.

    Args:
        weight: [out, in, k, k], not all zero.
        rank: number of terms.
        seed: of the random initial factors.

    Returns:
        Factors [out, rank], [in, rank] and [k * k, rank].

    Raises:
        MissingPackageError: tensorly is not installed.
    """
    # Unit mean square, so that the penalty and the tolerance mean the same for every layer.
    tensorly, scale = require_tensorly(), float(np.sqrt((weight**2).mean()))
    with tensorly.backend_context("numpy", local_threadsafe=True):
        decomposed = tensorly.decomposition.parafac(
            weight.reshape(*weight.shape[:2], -1) / scale, rank=rank, init="random", random_state=seed,
            n_iter_max=CP_ITERATIONS, tol=1e-5, l2_reg=CP_L2_PENALTY,
        )  # fmt: skip
    norms = np.array([np.linalg.norm(factor, axis=0) for factor in decomposed.factors])  # [3, rank]
    # Equal norms of the factors: gradients of all three have the same size when training resumes.
    norm = np.cbrt(norms.prod(0) * decomposed.weights * scale)
    out, inner, window = (f * (norm / np.maximum(n, 1e-30)) for f, n in zip(decomposed.factors, norms, strict=True))
    return out, inner, window


def cp_rank(shape: torch.Size, *, rank_ratio: float, channel_multiple: int) -> int:
    """A share of the expected generic rank of a tensor, rounded to the channel grid, at least one step.

    The generic rank is the number of elements divided by the degrees of freedom of one term, so the share is also about
    the share of weights.

    Args:
        shape: [out, in, k, k].
        rank_ratio: the share, in (0, 1).
        channel_multiple: the grid.
    """
    out, inner, window = shape[0], shape[1], shape[2] * shape[3]
    full = out * inner * window / (out + inner + window - 2)
    return max(1, round(rank_ratio * full / channel_multiple)) * channel_multiple


def require_tensorly() -> Any:
    """The package tensorly, imported at its first use.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import tensorly
        import tensorly.decomposition
    except ImportError:
        raise MissingPackageError(
            "low-rank convolutions need tensorly, which is not installed; type: pip install 'fer-nas[lowrank]'"
        ) from None
    return tensorly


def _build_tucker2(layer: nn.Conv2d, *, rank_ratio: float, channel_multiple: int) -> nn.Sequential | None:
    out, inner, window = layer.out_channels, layer.in_channels, layer.kernel_size[0] * layer.kernel_size[1]
    rank_out = _mode_rank(out, max_rank=inner * window, rank_ratio=rank_ratio, channel_multiple=channel_multiple)
    rank_in = _mode_rank(inner, max_rank=out * window, rank_ratio=rank_ratio, channel_multiple=channel_multiple)
    if rank_out == out and rank_in == inner:
        return None
    is_last = rank_out == out
    return _named(
        reduce=_reduction_conv(inner, rank_in) if rank_in < inner else None,
        core=_core_conv(layer, rank_in, rank_out, groups=1, bias=is_last and layer.bias is not None),
        expand=None if is_last else _expansion_conv(layer, rank_out),
    )


def _mode_rank(width: int, *, max_rank: int, rank_ratio: float, channel_multiple: int) -> int:
    """A share of a mode's full rank, at most what the other modes allow."""
    return min(max_rank, pruned_width(width, 1 - rank_ratio, channel_multiple))


def _cp_factors(weight: Array, *, rank: int, seed: int) -> dict[str, Array]:
    out, inner, window = cp_decomposition(weight, rank=rank, seed=seed)
    return {"reduce": inner.T, "core": window.T, "expand": out}


def _is_pointwise(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (1, 1) and layer.padding in ((0, 0), "valid", "same")


def _reduction_conv(width_in: int, width_out: int, *, stride: Any = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 1, stride, bias=False)


def _expansion_conv(layer: nn.Conv2d, rank: int) -> nn.Conv2d:
    return nn.Conv2d(rank, layer.out_channels, 1, bias=layer.bias is not None)


def _core_conv(layer: nn.Conv2d, width_in: int, width_out: int, *, groups: int, bias: bool) -> nn.Conv2d:
    """A convolution with the window, stride, padding and dilation of `layer`."""
    size: Any = layer.kernel_size
    padding: Any = layer.padding
    stride: Any = layer.stride
    dilation: Any = layer.dilation
    return nn.Conv2d(width_in, width_out, size, stride, padding, dilation, groups, bias=bias)


def _named(**parts: nn.Module | None) -> nn.Sequential:
    return nn.Sequential(OrderedDict((name, part) for name, part in parts.items() if part is not None))


def _weight(layer: nn.Module) -> Tensor:
    return layer.get_parameter("weight")
