"""Squeeze-and-excitation as the published nets have it (Hu et al. 2018, https://arxiv.org/abs/1709.01507)."""

from torch import Tensor, nn

from search_spaces._leaf import Scale


class SqueezeExcite(nn.Module):
    """Each channel times a gate computed from the channel means: 1x1 to `inner`, ReLU, 1x1 back, `gate`."""

    def __init__(self, width: int, squeezed_width: int, *, bias: bool, gate_layer: type[nn.Module]) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(width, squeezed_width, 1, bias=bias)
        self.act = nn.ReLU()
        self.up = nn.Conv2d(squeezed_width, width, 1, bias=bias)
        self.gate = gate_layer()
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        """Shape [N, width, H, W], as x."""
        gates = self.gate(self.up(self.act(self.down(self.pool(x)))))  # [N, width, 1, 1]
        scaled: Tensor = self.scale(x, gates)
        return scaled
