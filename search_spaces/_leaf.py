"""Leaf modules for single tensor operations, with which a traced network consists of named modules only.

`torch.fx.symbolic_trace` steps into every module outside `torch.nn`. A `Leaf` stays one node, so each operation has a
qualified name (`stage2.cell1.node0.add`), and a graph rewrite needs no list of functions and operators.
"""

from typing import Any, cast

import torch
from torch import Tensor, fx, nn


class Leaf(nn.Module):
    """A module that `torch.fx` records as one `call_module` node. Inputs are positional."""

    def __call__(self, *inputs: Any) -> Any:
        """Run the module, or record it as one node when an input is a tracer's proxy."""
        for value in inputs:
            if isinstance(value, fx.Proxy):
                tracer = cast(fx.Tracer, value.tracer)
                return tracer.create_proxy("call_module", tracer.path_of_module(self), inputs, {})
        return super().__call__(*inputs)


class Add(Leaf):
    """Sum of two maps of equal shape [N, C, H, W]."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Shape [N, C, H, W]."""
        return a + b


class Concat(Leaf):
    """Concatenation of maps [N, C_i, H, W] along the channel axis."""

    def forward(self, *maps: Tensor) -> Tensor:
        """Shape [N, sum of C_i, H, W]."""
        return torch.cat(maps, dim=1)


class Scale(Leaf):
    """Product of each channel of a map [N, C, H, W] and its gate [N, C, 1, 1]."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Shape [N, C, H, W]."""
        return x * gate


class SwapAxes(Leaf):
    """Exchange of axes 1 and 2: [N, A, B, D] to [N, B, A, D]."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape [N, B, A, D]."""
        return x.transpose(1, 2)


PerChannel = float | tuple[float, ...]
"""One number for all channels, or one for each."""


def per_channel(value: PerChannel, x: Tensor) -> float | Tensor:
    """Numbers per channel as a tensor [C, 1, 1] that broadcasts over maps like x; one number as it is."""
    return x.new_tensor(value)[:, None, None] if isinstance(value, tuple) else value


class Normalise(Leaf):
    """(x - mean) / std, with both fixed, in pixel values 0..255; one number each, or one for each channel."""

    def __init__(self, *, mean: PerChannel = 127.5, std: PerChannel = 64.0) -> None:
        super().__init__()
        self.mean = mean
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        """Shape of x: any, or [N, C, H, W] where numbers are per channel."""
        return (x - per_channel(self.mean, x)) / per_channel(self.std, x)

    def extra_repr(self) -> str:
        """Both numbers, for `print(net)`."""
        return f"mean={self.mean}, std={self.std}"
