"""Published classifiers as lists of fused FP16 kernels, to validate device profiles on published latencies.

The architectures follow the papers and the defaults of torchvision and timm: ResNet (arXiv 1512.03385), ResNeXt
(1611.05431), VGG (1409.1556), AlexNet (1404.5997), DenseNet (1608.06993), MobileNetV2 (1801.04381), MobileNetV3
(1905.02244), MNASNet (1807.11626), MixNet (1907.09595), EfficientNet (1905.11946), EfficientFormer (2206.01191),
ShuffleNetV2 (1807.11164), SqueezeNet (1602.07360). The tests compare them with published multiply-accumulates.
"""

from collections.abc import Callable

from benchmarks.kernel_list import Net, round8
from benchmarks.published_detectors import DETECTORS
from benchmarks.published_segmenters import SEGMENTERS
from benchmarks.published_transformers import TRANSFORMERS
from nas.latency.costs import Costs


def resnet(blocks: tuple[int, ...], *, bottleneck: bool, groups: int = 1, wide: float = 1) -> Costs:
    """ResNet v1.5 as in torchvision; ResNeXt with `groups`, and inner layers `wide` times as wide."""
    net = Net().conv(64, 7, 2).move("pool", 2)
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
                inner = int(width * wide)
                net.conv(inner, 1).conv(inner, 3, stride, groups=groups).conv(out, 1, residual=True)
            else:
                net.conv(width, 3, stride).conv(out, 3, residual=True)
    return net.head(1000)


def vgg(counts: tuple[int, ...]) -> Costs:
    """VGG with its three linear layers."""
    net = Net()
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
    net = Net().conv(16, 3, 2).move("elementwise")
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
            net.attention(round8(wide / 4))
        net.conv(out, 1, residual=residual)
    return net.conv(960, 1).move("elementwise").head(1280, 1000)


def mnasnet(alpha: float) -> Costs:
    """MNASNet-B1 scaled by `alpha`."""
    net = Net().conv(round8(32 * alpha), 3, 2)
    net.conv(net.channels, 3, groups=net.channels).conv(round8(16 * alpha), 1)
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
            net.conv(wide, 1).conv(wide, k, stride, groups=wide).conv(round8(base * alpha), 1, residual=i > 0)
    return net.conv(1280, 1).head(1000)


def squeezenet() -> Costs:
    """SqueezeNet 1.0; the concatenation of a fire module is a copy kernel."""
    net = Net().conv(96, 7, 2).move("pool", 2)
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


def alexnet() -> Costs:
    """AlexNet as in torchvision; the first convolution with stride 4 gives 55x55, the poolings 27, 13 and 6."""
    net = Net()
    net.conv(64, 11, 4)
    net.size = 55
    for size, out, k in ((27, 192, 5), (13, 384, 3)):
        net.move("pool", 2)
        net.size = size
        net.conv(out, k)
    net.conv(256, 3).conv(256, 3).move("pool", 2)
    net.size, net.channels = 1, 256 * 36
    return net.head(4096, 4096, 1000)


def densenet(blocks: tuple[int, ...], growth: int, first: int) -> Costs:
    """DenseNet.

    Normalisation and ReLU before a convolution are one kernel. So is each concatenation, as in `nas.latency.costs`: a
    map that is concatenated repeatedly cannot be written in place.
    """
    net = Net().conv(first, 7, 2).move("pool", 2)
    total = first
    for i, count in enumerate(blocks):
        for layer in range(count):
            net.channels = total
            if layer:
                net.move("concat")
            net.move("elementwise").conv(4 * growth, 1).conv(growth, 3)
            total += growth
        net.channels = total
        net.move("concat").move("elementwise")
        if i < len(blocks) - 1:
            total //= 2
            net.conv(total, 1).move("pool", 2)
    return net.head(1000)


def mobilenet_v2(alpha: float = 1.0) -> Costs:
    """MobileNetV2."""
    net = Net().conv(round8(32 * alpha), 3, 2)
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, out, repeats, first in table:
        for i in range(repeats):
            wide, stride = net.channels * expansion, first if i == 0 else 1
            if expansion > 1:
                net.conv(wide, 1)
            net.conv(wide, 3, stride, groups=wide).conv(round8(out * alpha), 1, residual=i > 0)
    return net.conv(max(1280, round8(1280 * alpha)), 1).head(1000)


def efficientnet(width: float, depth: float, size: int) -> Costs:
    """EfficientNet; a SiLU is a kernel of its own."""
    net = Net(size).conv(round8(32 * width), 3, 2).move("elementwise")
    table = (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )  # fmt: skip
    for expansion, out, repeats, first, k in table:
        for i in range(-(-int(repeats * depth * 1000) // 1000)):
            source, wide, stride = net.channels, net.channels * expansion, first if i == 0 else 1
            if expansion > 1:
                net.conv(wide, 1).move("elementwise")
            net.conv(wide, k, stride, groups=wide).move("elementwise").attention(max(1, source // 4))
            net.conv(round8(out * width), 1, residual=i > 0)
    return net.conv(round8(1280 * width), 1).move("elementwise").head(1000)


_MIXNET_S = (  # repeats, kernels, split expansion, split projection, stride, expansion, out, attention, swish
    (1, (3,), 2, 2, 2, 6, 24, 0.0, False), (1, (3,), 2, 2, 1, 3, 24, 0.0, False),
    (1, (3, 5, 7), 1, 1, 2, 6, 40, 0.5, True), (3, (3, 5), 2, 2, 1, 6, 40, 0.5, True),
    (1, (3, 5, 7), 1, 2, 2, 6, 80, 0.25, True), (2, (3, 5), 1, 2, 1, 6, 80, 0.25, True),
    (1, (3, 5, 7), 2, 2, 1, 6, 120, 0.5, True), (2, (3, 5, 7, 9), 2, 2, 1, 3, 120, 0.5, True),
    (1, (3, 5, 7, 9, 11), 1, 1, 2, 6, 200, 0.5, True), (2, (3, 5, 7, 9), 1, 2, 1, 6, 200, 0.5, True),
)  # fmt: skip
_MIXNET_M = (
    (1, (3, 5, 7), 2, 2, 2, 6, 32, 0.0, False), (1, (3,), 2, 2, 1, 3, 32, 0.0, False),
    (1, (3, 5, 7, 9), 1, 1, 2, 6, 40, 0.5, True), (3, (3, 5), 2, 2, 1, 6, 40, 0.5, True),
    (1, (3, 5, 7), 1, 1, 2, 6, 80, 0.25, True), (3, (3, 5, 7, 9), 2, 2, 1, 6, 80, 0.25, True),
    (1, (3,), 1, 1, 1, 6, 120, 0.5, True), (3, (3, 5, 7, 9), 2, 2, 1, 3, 120, 0.5, True),
    (1, (3, 5, 7, 9), 1, 1, 2, 6, 200, 0.5, True), (3, (3, 5, 7, 9), 1, 2, 1, 6, 200, 0.5, True),
)  # fmt: skip


def mixnet(
    table: tuple[tuple[int, tuple[int, ...], int, int, int, int, int, float, bool], ...], stem: int, width: float
) -> Costs:
    """MixNet; each kernel size of a mixed convolution is a kernel, and their concatenation a copy."""
    net = Net()
    first = round8(stem * width)
    net.conv(first, 3, 2).conv(first, 3, groups=first).conv(first, 1, residual=True)
    for repeats, kernels, expand, project, first_stride, expansion, base, attention, swish in table:
        for i in range(repeats):
            source, out, stride = net.channels, round8(base * width), first_stride if i == 0 else 1
            wide = source * expansion
            _mixed(net, wide, (1,) * expand, swish=swish)
            _mixed(net, wide, kernels, stride=stride, depthwise=True, swish=swish)
            if attention:
                net.attention(max(1, int(source * attention)))
            _mixed(net, out, (1,) * project, swish=False)
            if stride == 1 and source == out:
                net.move("elementwise")
    return net.conv(1536, 1).head(1000)


def _mixed(
    net: Net, out: int, kernels: tuple[int, ...], *, stride: int = 1, depthwise: bool = False, swish: bool
) -> None:
    source, size, count = net.channels, net.size, len(kernels)
    for k in kernels:
        net.size, net.channels = size, source // count
        net.conv(out // count, k, stride, groups=net.channels if depthwise else 1)
    net.channels = out
    if count > 1:
        net.move("concat")
    if swish:
        net.move("elementwise")


def efficientformer(widths: tuple[int, ...], depths: tuple[int, ...]) -> Costs:
    """EfficientFormer: pooling blocks, and one attention over 7x7 tokens at the end."""
    net = Net().conv(widths[0] // 2, 3, 2).conv(widths[0], 3, 2)
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            net.conv(width, 3, 2)
        for i in range(depth):
            if stage == len(widths) - 1 and i == depth - 1:
                tokens, keys, values = net.size**2, 8 * 32, 8 * 128
                net.move("reduce").conv(2 * keys + values, 1)
                net.add("linear", tokens**2 * (keys + values), (2 * keys + values) * tokens, values * tokens)
                net.add("reduce", 0, 8 * tokens**2, 8 * tokens**2)
                net.channels = values
                net.conv(width, 1, residual=True).move("reduce")
            else:
                net.move("pool").move("elementwise")
            net.conv(4 * width, 1).move("elementwise").conv(width, 1, residual=True)
    return net.head(1000)


def shufflenet_v2(widths: tuple[int, ...]) -> Costs:
    """ShuffleNetV2; concatenation and shuffle are one copy."""
    net = Net().conv(24, 3, 2).move("pool", 2)
    for out, repeats in zip(widths, (4, 8, 4), strict=False):
        half = out // 2
        for i in range(repeats):
            stride = 2 if i == 0 else 1
            size, source = net.size, net.channels
            if i == 0:
                net.conv(source, 3, 2, groups=source).conv(half, 1)
                net.size, net.channels = size, source
            else:
                net.channels = half
            net.conv(half, 1).conv(half, 3, stride, groups=half).conv(half, 1)
            net.channels = out
            net.move("concat")
    return net.conv(widths[-1], 1).head(1000)


NETS: dict[str, Callable[[], Costs]] = {
    "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "resnet34": lambda: resnet((3, 4, 6, 3), bottleneck=False),
    "resnet50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
    "resnet101": lambda: resnet((3, 4, 23, 3), bottleneck=True),
    "resnet152": lambda: resnet((3, 8, 36, 3), bottleneck=True),
    "resnext50_32x4d": lambda: resnet((3, 4, 6, 3), bottleneck=True, groups=32, wide=2),
    "wide_resnet50_2": lambda: resnet((3, 4, 6, 3), bottleneck=True, wide=2),
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
    "alexnet": alexnet,
    "densenet121": lambda: densenet((6, 12, 24, 16), 32, 64),
    "densenet161": lambda: densenet((6, 12, 36, 24), 48, 96),
    "densenet169": lambda: densenet((6, 12, 32, 32), 32, 64),
    "densenet201": lambda: densenet((6, 12, 48, 32), 32, 64),
    "mobilenetv2": mobilenet_v2,
    "efficientnet-b0": lambda: efficientnet(1.0, 1.0, 224),
    "efficientnet-b1": lambda: efficientnet(1.0, 1.1, 240),
    "efficientnet-b2": lambda: efficientnet(1.1, 1.2, 260),
    "efficientnet-b3": lambda: efficientnet(1.2, 1.4, 300),
    "mixnet-s": lambda: mixnet(_MIXNET_S, 16, 1.0),
    "mixnet-m": lambda: mixnet(_MIXNET_M, 24, 1.0),
    "mixnet-l": lambda: mixnet(_MIXNET_M, 24, 1.3),
    "efficientformer-l1": lambda: efficientformer((48, 96, 224, 448), (3, 2, 6, 4)),
    "efficientformer-l3": lambda: efficientformer((64, 128, 320, 512), (4, 4, 12, 6)),
    "shufflenet_v2_x0_5": lambda: shufflenet_v2((48, 96, 192, 1024)),
    "shufflenet_v2_x1_0": lambda: shufflenet_v2((116, 232, 464, 1024)),
    "shufflenet_v2_x1_5": lambda: shufflenet_v2((176, 352, 704, 1024)),
    "shufflenet_v2_x2_0": lambda: shufflenet_v2((244, 488, 976, 2048)),
    **DETECTORS,
    **SEGMENTERS,
    **TRANSFORMERS,
}
