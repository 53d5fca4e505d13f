"""Well-known nets as lists of fused kernels in FP16, to hold device profiles against published latencies.

Architectures from their papers and torchvision's defaults: ResNet (arXiv 1512.03385), VGG (1409.1556),
MobileNetV3-large (1905.02244), MNASNet (1807.11626), SqueezeNet 1.0 (1602.07360). Published multiply-accumulates check
them in the tests.
"""

from collections.abc import Callable

from nas.costs import Costs, Kernel

BYTES = 2


class _Net:
    """Collects kernels while the resolution and the channels go along."""

    def __init__(self, size: int = 224, channels: int = 3) -> None:
        self.size, self.channels = size, channels
        self.kernels: list[Kernel] = []
        self.params = 0

    def add(
        self, kind: str, macs: int, read: int, written: int, weights: int = 0, out: int = 0, groups: int = 1
    ) -> None:
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

    def conv(self, out: int, k: int, stride: int = 1, *, groups: int = 1, residual: bool = False) -> "_Net":
        size = -(-self.size // stride)
        weights = out * self.channels // groups * k * k
        kind = ("pointwise" if k == 1 else "conv") if groups == 1 else "depthwise"
        read = self.channels * self.size**2 + (out * size**2 if residual else 0)
        self.add(kind, weights * size**2, read, out * size**2, weights + out, out, groups)
        self.size, self.channels = size, out
        return self

    def move(self, kind: str, stride: int = 1) -> "_Net":
        """A kernel that only moves: an activation of its own, a pooling, a copy."""
        size = -(-self.size // stride)
        self.add(kind, 0, self.channels * self.size**2, self.channels * size**2)
        self.size = size
        return self

    def attention(self, reduced: int) -> "_Net":
        """Squeeze-and-excitation: pooling, two 1x1 convolutions, one pointwise kernel."""
        width, size = self.channels, self.size
        self.add("reduce", 0, width * size**2, width)
        self.size = 1
        self.conv(reduced, 1).conv(width, 1)
        self.size = size
        return self.move("elementwise")

    def head(self, *widths: int) -> Costs:
        self.add("reduce", 0, self.channels * self.size**2, self.channels)
        for width in widths:
            weights = width * self.channels
            self.add("linear", weights, self.channels, width, weights + width, width)
            self.channels = width
        return Costs(kernels=tuple(self.kernels), params=self.params, nonzero_params=self.params)


def resnet(blocks: tuple[int, ...], *, bottleneck: bool) -> Costs:
    """ResNet v1.5 as torchvision builds it."""
    net = _Net().conv(64, 7, 2).move("pool", 2)
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        out = width * (4 if bottleneck else 1)
        for i in range(count):
            stride = 2 if stage and i == 0 else 1
            size, channels = net.size, net.channels
            if channels != out or stride > 1:
                net.conv(out, 1, stride)
                net.size, net.channels = size, channels
            if bottleneck:
                net.conv(width, 1).conv(width, 3, stride).conv(out, 1, residual=True)
            else:
                net.conv(width, 3, stride).conv(out, 3, residual=True)
    return net.head(1000)


def vgg(counts: tuple[int, ...]) -> Costs:
    """VGG with its three linear layers."""
    net = _Net()
    for count, width in zip(counts, (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            net.conv(width, 3)
        net.move("pool", 2)
    flat = net.channels * net.size**2
    net.channels, net.size = flat, 1
    return net.head(4096, 4096, 1000)


_MOBILENET_V3_LARGE = (  # kernel, expansion, out, squeeze-and-excitation, hard-swish, stride: table 1 of the paper
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)


def mobilenet_v3_large() -> Costs:
    """MobileNetV3-large; hard-swish is a kernel of its own."""
    net = _Net().conv(16, 3, 2).move("elementwise")
    for k, wide, out, attention, swish, stride in _MOBILENET_V3_LARGE:
        residual = stride == 1 and net.channels == out
        if wide != net.channels:
            net.conv(wide, 1)
            if swish:
                net.move("elementwise")
        net.conv(wide, k, stride, groups=wide)
        if swish:
            net.move("elementwise")
        if attention:
            net.attention(_round8(wide / 4))
        net.conv(out, 1, residual=residual)
    return net.conv(960, 1).move("elementwise").head(1280, 1000)


def mnasnet(alpha: float) -> Costs:
    """MNASNet-B1 scaled by `alpha`."""
    net = _Net().conv(_round8(32 * alpha), 3, 2)
    net.conv(net.channels, 3, groups=net.channels).conv(_round8(16 * alpha), 1)
    table = (
        (24, 3, 2, 3, 3),
        (40, 5, 2, 3, 3),
        (80, 5, 2, 6, 3),
        (96, 3, 1, 6, 2),
        (192, 5, 2, 6, 4),
        (320, 3, 1, 6, 1),
    )
    for base, k, first, expansion, repeats in table:
        for i in range(repeats):
            wide, stride = net.channels * expansion, first if i == 0 else 1
            net.conv(wide, 1).conv(wide, k, stride, groups=wide).conv(_round8(base * alpha), 1, residual=i > 0)
    return net.conv(1280, 1).head(1000)


def squeezenet() -> Costs:
    """SqueezeNet 1.0; the concatenation of a fire module is a copy kernel."""
    net = _Net().conv(96, 7, 2).move("pool", 2)
    for squeeze, expand, pooled in (
        (16, 64, False), (16, 64, False), (32, 128, True), (32, 128, False),
        (48, 192, False), (48, 192, False), (64, 256, True), (64, 256, False),
    ):  # fmt: skip
        net.conv(squeeze, 1).conv(expand, 1)
        net.channels = squeeze
        net.conv(expand, 3)
        net.channels = 2 * expand
        net.move("concat")
        if pooled:
            net.move("pool", 2)
    return net.conv(1000, 1).head()


def _round8(value: float) -> int:
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


NETS: dict[str, Callable[[], Costs]] = {
    "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
    "resnet101": lambda: resnet((3, 4, 23, 3), bottleneck=True),
    "resnet152": lambda: resnet((3, 8, 36, 3), bottleneck=True),
    "vgg11": lambda: vgg((1, 1, 2, 2, 2)),
    "vgg13": lambda: vgg((2, 2, 2, 2, 2)),
    "vgg16": lambda: vgg((2, 2, 3, 3, 3)),
    "vgg19": lambda: vgg((2, 2, 4, 4, 4)),
    "mobilenetv3-large": mobilenet_v3_large,
    "mnasnet0_5": lambda: mnasnet(0.5),
    "mnasnet0_75": lambda: mnasnet(0.75),
    "mnasnet1_0": lambda: mnasnet(1.0),
    "mnasnet1_3": lambda: mnasnet(1.3),
    "squeezenet1_0": squeezenet,
}
