"""Squeeze-and-excitation of the published nets (Hu et al. 2018, https://arxiv.org/abs/1709.01507)."""

from torch import Tensor, nn

from search_spaces._leaf import Scale


class SqueezeExcite(nn.Module):
    """Channels multiplied by gates computed from the channel means.

    Args:
        width: channels.
        squeezed_width: channels between the two 1x1 convolutions, which have a ReLU between them.
        bias: whether the convolutions have biases.
        gate_layer: class of the activation of the gates.
    """

    def __init__(self, width: int, squeezed_width: int, *, bias: bool, gate_layer: type[nn.Module]) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(width, squeezed_width, 1, bias=bias)
        self.act = nn.ReLU()
        self.up = nn.Conv2d(squeezed_width, width, 1, bias=bias)
        self.gate = gate_layer()
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        """Shape [N, width, H, W], the shape of x."""
        gates = self.gate(self.up(self.act(self.down(self.pool(x)))))  # [N, width, 1, 1]
        scaled: Tensor = self.scale(x, gates)
        return scaled
