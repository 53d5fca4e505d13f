"""A layer's weight as a product of smaller ones: the layers that hold them, and how they are computed.

- 1x1 convolutions and linear layers: the singular value decomposition, optimal at each rank (Eckart and Young 1936).
- k x k convolutions: Tucker-2 (Kim et al. 2016, https://arxiv.org/abs/1511.06530), 1x1 down, k x k on fewer channels,
  1x1 up; or CP (Lebedev et al. 2015, https://arxiv.org/abs/1412.6553), 1x1, depthwise, 1x1. What is different here: CP
  keeps both axes of the window together, so that there are three kernels instead of four.

Which layers there are, and how wide, depends on shapes alone. A mode that keeps its full rank gets no layer.
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
"""Rounds of alternating least squares at most: more of them gain less than an epoch of training does."""
CP_L2_PENALTY = 1e-6
"""Keeps each round solvable where the tensor's rank is lower than asked for; weights have a mean square of 1 then."""


def build_factorized(
    layer: nn.Module, *, rank_ratio: float, decomposition: str, channel_multiple: int
) -> nn.Sequential | None:
    """The layers `reduce`, `core` and `expand` (as many as are needed) that can hold a layer's factors; weights fresh.

    Args:
        layer: what shall be replaced.
        rank_ratio: of the full rank, in (0, 1).
        decomposition: "tucker" or "cp", for windows larger than 1x1.
        channel_multiple: ranks stay on this grid, as they are channel counts.

    Returns:
        None for modules that have no such form: others, convolutions in groups, padding that is not of zeros.
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
    """Compute the factors of a layer's weight into what `blank` made for it, in place; the bias goes into the last.

    Raises:
        MissingPackageError: windows larger than 1x1 need tensorly, which is not installed.
    """
    weight = layer.weight.detach().cpu().double().numpy()
    layers = dict(factor_layers.named_children())
    if not weight.any():
        factors = {name: _weight(part).detach().double().numpy() for name, part in layers.items()}
        factors[next(reversed(layers))] *= 0  # only the last, so that the others can still learn
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
    """Factors [rank, in] and [out, rank] of a matrix [out, in], both with the roots of the singular values."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    roots = np.sqrt(values[:rank])
    return roots[:, None] * right[:rank], left[:, :rank] * roots


def tucker2_decomposition(weight: Array, *, ranks: tuple[int, int]) -> dict[str, Array]:
    """Tucker-2 of a weight [out, in, k, k], not all zero, at these ranks of its first two modes, full ones left out.

    Returns:
        `core` [ranks[0], ranks[1], k, k], `expand` [out, ranks[0]] and `reduce` [ranks[1], in].

    Raises:
        MissingPackageError: tensorly is not installed.
    """
    modes = [mode for mode in (0, 1) if ranks[mode] < weight.shape[mode]]
    tensorly = require_tensorly()
    with tensorly.backend_context("numpy", local_threadsafe=True):
        (core, found), _ = tensorly.decomposition.partial_tucker(
            weight,
            rank=[ranks[mode] for mode in modes],
            modes=modes,
            init="svd",
            n_iter_max=TUCKER_ITERATIONS,
            tol=1e-5,
        )
    factors: dict[int, Array] = dict(zip(modes, found, strict=True))
    named = {"core": core}
    return named | ({"expand": factors[0]} if 0 in factors else {}) | ({"reduce": factors[1].T} if 1 in factors else {})


def cp_decomposition(weight: Array, *, rank: int, seed: int) -> tuple[Array, Array, Array]:
    """CP of a weight [out, in, k, k], not all zero: factors [out, rank], [in, rank] and [k * k, rank].

    The three factors of a term have equal norms.

    Raises:
        MissingPackageError: tensorly is not installed.
    """
    tensorly, scale = require_tensorly(), float(np.sqrt((weight**2).mean()))
    with tensorly.backend_context("numpy", local_threadsafe=True):
        found = tensorly.decomposition.parafac(
            weight.reshape(*weight.shape[:2], -1) / scale, rank=rank, init="random", random_state=seed,
            n_iter_max=CP_ITERATIONS, tol=1e-5, l2_reg=CP_L2_PENALTY,
        )  # fmt: skip
    norms = np.array([np.linalg.norm(factor, axis=0) for factor in found.factors])  # [3, rank]
    level = np.cbrt(norms.prod(0) * found.weights * scale)
    out, inner, window = (f * (level / np.maximum(n, 1e-30)) for f, n in zip(found.factors, norms, strict=True))
    return out, inner, window


def cp_rank(shape: torch.Size, *, rank_ratio: float, channel_multiple: int) -> int:
    """A share of the expected generic rank of a tensor of this shape [out, in, k, k], on the grid, at least one step.

    That rank is elements over degrees of freedom of one term, so the share is that of the weights, too.
    """
    out, inner, window = shape[0], shape[1], shape[2] * shape[3]
    full = out * inner * window / (out + inner + window - 2)
    return max(1, round(rank_ratio * full / channel_multiple)) * channel_multiple


def require_tensorly() -> Any:
    """The package, imported at its first use.

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
    """A share of a mode's full rank; never above what the other modes allow."""
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
    """A convolution that looks at the map as `layer` does."""
    size: Any = layer.kernel_size
    padding: Any = layer.padding
    stride: Any = layer.stride
    dilation: Any = layer.dilation
    return nn.Conv2d(width_in, width_out, size, stride, padding, dilation, groups, bias=bias)


def _named(**parts: nn.Module | None) -> nn.Sequential:
    return nn.Sequential(OrderedDict((name, part) for name, part in parts.items() if part is not None))


def _weight(layer: nn.Module) -> Tensor:
    return layer.get_parameter("weight")
