"""PIDNet (arXiv 2206.02066) as a list of fused FP16 kernels, after the authors' code, with 35 classes."""

from collections.abc import Callable

from benchmarks.kernel_list import Net
from nas.latency.costs import Costs

CLASSES = 35
_PLANES, _POOLED, _HEAD = 32, 96, 128  # of PIDNet-S


class _PidNet(Net):
    """Blocks of the three branches: proportional, integral, derivative."""

    def at(self, size: int, channels: int) -> "_PidNet":
        self.size, self.channels = size, channels
        return self

    def basic(self, out: int, count: int, stride: int = 1) -> None:
        for i in range(count):
            size, source, step = self.size, self.channels, stride if i == 0 else 1
            if source != out or step > 1:
                self.conv(out, 1, step)
                self.at(size, source)
            self.conv(out, 3, step).conv(out, 3, residual=True)

    def bottleneck(self, inner: int, count: int, stride: int = 1) -> None:
        for i in range(count):
            size, source, step = self.size, self.channels, stride if i == 0 else 1
            if source != 2 * inner or step > 1:
                self.conv(2 * inner, 1, step)
                self.at(size, source)
            self.conv(inner, 1).conv(inner, 3, step).conv(2 * inner, 1, residual=True)

    def guided(self, size: int, channels: int) -> None:
        """A pixel-attention-guided sum of the high-resolution branch and a compressed low-resolution branch."""
        high, low = self.size, size
        self.at(low, channels).conv(2 * _PLANES, 1).conv(_PLANES, 1)
        self.at(high, _PLANES).move("resize")
        self.at(high, 2 * _PLANES).conv(_PLANES, 1).move("reduce")
        self.at(high, 2 * _PLANES).move("resize").move("elementwise")

    def pyramid(self) -> None:
        """Parallel aggregation of pooled maps."""
        size, channels = self.size, self.channels
        for scale in (1, 2, 4, 8, size):
            self.at(size, channels)
            if scale > 1:
                self.move("pool", scale)
            self.move("elementwise").conv(_POOLED, 1)
            if scale > 1:
                self.at(size, _POOLED).move("resize").move("elementwise")
        self.at(size, 4 * _POOLED).move("concat").move("elementwise").conv(4 * _POOLED, 3, groups=4)
        self.at(size, 5 * _POOLED).move("concat").move("elementwise").conv(_HEAD, 1)
        self.at(size, channels).move("elementwise").conv(_HEAD, 1, residual=True)


def pidnet_s(size: int = 512) -> Costs:
    """PIDNet-S without its auxiliary heads."""
    net = _PidNet(size)
    net.conv(_PLANES, 3, 2).conv(_PLANES, 3, 2)
    net.basic(_PLANES, 2)
    net.basic(2 * _PLANES, 2, 2)
    fine = net.size
    net.basic(4 * _PLANES, 3, 2)
    middle = net.size
    net.at(fine, 2 * _PLANES).basic(2 * _PLANES, 2)
    net.guided(middle, 4 * _PLANES)
    net.at(fine, 2 * _PLANES).basic(_PLANES, 1)
    net.at(middle, 4 * _PLANES).conv(_PLANES, 3)
    net.at(fine, _PLANES).move("resize").move("elementwise")
    net.at(middle, 4 * _PLANES).basic(8 * _PLANES, 3, 2)
    coarse = net.size
    net.at(fine, 2 * _PLANES).basic(2 * _PLANES, 2)
    net.guided(coarse, 8 * _PLANES)
    net.at(fine, _PLANES).bottleneck(_PLANES, 1)
    net.at(coarse, 8 * _PLANES).conv(2 * _PLANES, 3)
    net.at(fine, 2 * _PLANES).move("resize").move("elementwise")
    net.at(fine, 2 * _PLANES).bottleneck(2 * _PLANES, 1)
    net.at(fine, 2 * _PLANES).bottleneck(2 * _PLANES, 1)
    net.at(coarse, 8 * _PLANES).bottleneck(8 * _PLANES, 2, 2)
    net.pyramid()
    net.at(fine, _HEAD).move("resize").move("elementwise").conv(_HEAD, 1)
    net.at(fine, _HEAD).conv(_HEAD, 1, residual=True).move("elementwise").conv(_HEAD, 3).conv(CLASSES, 1)
    return Costs(kernels=tuple(net.kernels), params=net.params, nonzero_params=net.params)


SEGMENTERS: dict[str, Callable[[], Costs]] = {"pidnet-s": pidnet_s}
