"""Channel attention: each channel of a map [N, C, H, W] is scaled by a gate in 0..1 computed from the channel means.

- Squeeze-and-excitation (Hu et al. 2018, https://arxiv.org/abs/1709.01507), in the spaces with C // 4 inner channels.
- Efficient channel attention, ECA (Wang et al. 2020, https://arxiv.org/abs/1910.03151). Its kernel is always 3, as
  its rule has it for C up to 64, so that a pruned network has the same kernel as the wide one.
"""

from functools import lru_cache

from torch import Tensor, nn

from search_spaces._leaf import Scale, SwapAxes
from search_spaces._work import (
    ZERO_WORKLOAD,
    Workload,
    fused_workload,
    layer_workload,
    memory_bound_workload,
    sum_workloads,
)

ATTENTION_NAMES = ("none", "se", "eca")


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: gates from two 1x1 convolutions over the channel means, with a ReLU in between.

    Args:
        width: channels C of the map.
        squeezed_width: channels between the convolutions; None for C // 4, at least 1.
        bias: whether the convolutions have one.
        gate_layer: activation that makes gates of the result.
    """

    def __init__(
        self,
        width: int,
        squeezed_width: int | None = None,
        *,
        bias: bool = True,
        gate_layer: type[nn.Module] = nn.Sigmoid,
    ) -> None:
        super().__init__()
        inner = max(1, width // 4) if squeezed_width is None else squeezed_width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(width, inner, 1, bias=bias)
        self.act = nn.ReLU()
        self.up = nn.Conv2d(inner, width, 1, bias=bias)
        self.gate = gate_layer()
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        """Shape [N, C, H, W], as x."""
        gates = self.gate(self.up(self.act(self.down(self.pool(x)))))  # [N, C, 1, 1]
        scaled: Tensor = self.scale(x, gates)
        return scaled


class EfficientChannelAttention(nn.Module):
    """ECA: gates from a convolution of length 3 along the channel axis, three weights at any width."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.to_row = SwapAxes()
        self.conv = nn.Conv2d(1, 1, (3, 1), padding=(1, 0), bias=False)
        self.to_channels = SwapAxes()
        self.gate = nn.Sigmoid()
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        """Shape [N, C, H, W], as x."""
        row = self.conv(self.to_row(self.pool(x)))  # [N, 1, C, 1]
        scaled: Tensor = self.scale(x, self.gate(self.to_channels(row)))
        return scaled


def make_attention(name: str, width: int) -> nn.Module | None:
    """A new attention module for this width; None for "none".

    Raises:
        ValueError: `name` is not in `ATTENTION_NAMES`.
    """
    if name not in ATTENTION_NAMES:
        raise ValueError(f"attention must be one of {', '.join(ATTENTION_NAMES)}, but got {name!r}")
    if name == "none":
        return None
    return SqueezeExcite(width) if name == "se" else EfficientChannelAttention()


@lru_cache(maxsize=10_000)
def attention_workload(name: str, width: int, pixels: int) -> Workload:
    """Workload of an attention module of this width on a map of so many pixels."""
    if name == "none":
        return ZERO_WORKLOAD
    inner = max(1, width // 4)
    means, scale = memory_bound_workload(width, width, pixels, 1), fused_workload(width, pixels, n_maps=2)
    if name == "se":
        gates = [
            layer_workload(1, width, inner, 1, 1),
            layer_workload(1, inner, width, 1, 1),
            memory_bound_workload(width, width, 1, 1),
        ]
    else:
        turn = memory_bound_workload(width, width, 1, 1)
        gates = [turn, layer_workload(3, 1, 1, width, width), turn, fused_workload(width, 1, n_maps=0)]
    return sum_workloads([means, *gates, scale])
