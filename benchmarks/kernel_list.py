"""A net as the list of its fused FP16 kernels, written layer by layer."""

from nas.latency.costs import Costs, Kernel

BYTES = 2


class Net:
    """A list of kernels under construction, with the current resolution and channels."""

    def __init__(self, size: int = 224, channels: int = 3) -> None:
        self.size, self.channels = size, channels
        self.kernels: list[Kernel] = []
        self.params = 0

    def add(
        self, kind: str, macs: int, read: int, written: int, weights: int = 0, out: int = 0, groups: int = 1
    ) -> None:
        """Append a kernel of one image by its figures; sizes are in elements."""
        self.params += weights
        self.kernels.append(
            Kernel(
                name=f"k{len(self.kernels)}",
                kind=kind,
                macs=macs,
                input_bytes=read * BYTES,
                output_bytes=written * BYTES,
                weight_bytes=weights * BYTES,
                bits=16,
                in_channels=self.channels if out else 0,
                out_channels=out,
                groups=groups,
            )
        )

    def conv(self, out: int, k: int, stride: int = 1, *, groups: int = 1, residual: bool = False) -> "Net":
        """A convolution fused with its bias, activation and residual addition."""
        size = -(-self.size // stride)
        weights = out * self.channels // groups * k * k
        dense = "pointwise" if k == 1 else "conv"
        kind = dense if groups == 1 else "depthwise" if groups == self.channels else "grouped"
        read = self.channels * self.size**2 + (out * size**2 if residual else 0)
        self.add(kind, weights * size**2, read, out * size**2, weights + out, out, groups)
        self.size, self.channels = size, out
        return self

    def move(self, kind: str, stride: int = 1) -> "Net":
        """A kernel without arithmetic: an unfused activation, a pooling, a copy."""
        size = -(-self.size // stride)
        self.add(kind, 0, self.channels * self.size**2, self.channels * size**2)
        self.size = size
        return self

    def attention(self, reduced: int) -> "Net":
        """Squeeze-and-excitation: pooling, two 1x1 convolutions, one elementwise kernel."""
        width, size = self.channels, self.size
        self.add("reduce", 0, width * size**2, width)
        self.size = 1
        self.conv(reduced, 1).conv(width, 1)
        self.size = size
        return self.move("elementwise")

    def head(self, *widths: int) -> Costs:
        """Global pooling and linear layers of these widths; returns the whole net."""
        self.add("reduce", 0, self.channels * self.size**2, self.channels)
        for width in widths:
            weights = width * self.channels
            self.add("linear", weights, self.channels, width, weights + width, width)
            self.channels = width
        return Costs(kernels=tuple(self.kernels), params=self.params, nonzero_params=self.params)


def round8(value: float) -> int:
    """The nearest multiple of 8, at most a tenth below the value, as in the MobileNet papers."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded
