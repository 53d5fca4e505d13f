"""Published detectors as lists of fused FP16 kernels: YOLOX (arXiv 2107.08430), YOLOv8 and YOLO11 (Ultralytics).

The layers follow the authors' configuration files. A SiLU after a convolution is a kernel of its own, as in
`nas.latency.costs`. Decoding and non-maximum suppression are not part of the net.
"""

from collections.abc import Callable

from benchmarks.kernel_list import Net
from nas.latency.costs import Costs

CLASSES = 80


class _Detector(Net):
    """Convolutions with SiLU, and blocks that the families share."""

    def act(self, out: int, k: int, stride: int = 1, *, groups: int = 1, residual: bool = False) -> "_Detector":
        self.conv(out, k, stride, groups=groups, residual=residual).move("elementwise")
        return self

    def at(self, size: int, channels: int) -> "_Detector":
        self.size, self.channels = size, channels
        return self

    def join(self, channels: int) -> "_Detector":
        """A concatenation with `channels` channels in total."""
        self.channels = channels
        self.move("concat")
        return self

    def pools(self, out: int) -> "_Detector":
        """Spatial pyramid pooling."""
        self.act(self.channels // 2, 1)
        for _ in range(3):
            self.move("pool")
        return self.join(4 * self.channels).act(out, 1)

    def bottleneck(self, width: int, hidden: int, first: int = 3, *, residual: bool = True) -> None:
        self.act(hidden, first).act(width, 3, residual=residual)

    def split(self, out: int, count: int, *, deep: bool | None, share: int = 2) -> "_Detector":
        """C2f of YOLOv8 (`deep` is None), or C3k2 of YOLO11 with or without inner C3k blocks."""
        half = out // share
        self.act(2 * half, 1)
        for _ in range(count):
            self.channels = half
            if deep:
                self.cross(half, 2, first=3)
            else:
                self.bottleneck(half, half if deep is None else half // 2)
        return self.join((2 + count) * half).act(out, 1)

    def cross(self, out: int, count: int, *, first: int = 1, residual: bool = True) -> "_Detector":
        """A cross-stage partial block: two halves, one of them through bottlenecks."""
        source, half = self.channels, out // 2
        self.act(half, 1)
        self.channels = source
        self.act(half, 1)
        for _ in range(count):
            self.bottleneck(half, half, first, residual=residual)
        return self.join(2 * half).act(out, 1)


def yolox(depth: float, width: float, size: int = 640) -> Costs:
    """YOLOX; `size` is the side of the input."""
    base, blocks = int(64 * width), max(round(3 * depth), 1)
    net = _Detector(size)
    net.size, net.channels = size // 2, 12
    net.move("concat")
    net.act(base, 3).act(2 * base, 3, 2).cross(2 * base, blocks)
    net.act(4 * base, 3, 2).cross(4 * base, 3 * blocks)
    net.act(8 * base, 3, 2).cross(8 * base, 3 * blocks)
    net.act(16 * base, 3, 2).pools(16 * base).cross(16 * base, blocks, residual=False)
    small, channels = size // 32, (4 * base, 8 * base, 16 * base)
    net.act(channels[1], 1)
    net.at(2 * small, channels[1]).move("resize")
    net.at(2 * small, channels[2]).join(channels[2]).cross(channels[1], blocks, residual=False).act(channels[0], 1)
    net.at(4 * small, channels[0]).move("resize")
    net.at(4 * small, channels[1]).join(channels[1]).cross(channels[0], blocks, residual=False)
    net.act(channels[0], 3, 2).join(channels[1]).cross(channels[1], blocks, residual=False)
    net.act(channels[1], 3, 2).join(channels[2]).cross(channels[2], blocks, residual=False)
    for level, count in enumerate(channels):
        side, hidden = 4 * small // 2**level, 4 * base
        net.at(side, count).act(hidden, 1)
        net.act(hidden, 3).act(hidden, 3).conv(CLASSES, 1)
        net.at(side, hidden).act(hidden, 3).act(hidden, 3).conv(4, 1)
        net.at(side, hidden).conv(1, 1)
    return _whole(net)


def yolov8(depth: float, width: float, most: int, size: int = 640) -> Costs:
    """YOLOv8."""
    c = [_wide(n, width, most) for n in (64, 128, 256, 512, 1024)]
    few, many = max(round(3 * depth), 1), max(round(6 * depth), 1)
    net = _Detector(size)
    net.act(c[0], 3, 2).act(c[1], 3, 2).split(c[1], few, deep=None)
    net.act(c[2], 3, 2).split(c[2], many, deep=None)
    net.act(c[3], 3, 2).split(c[3], many, deep=None)
    net.act(c[4], 3, 2).split(c[4], few, deep=None).pools(c[4])
    _neck(net, c, size // 32, lambda out, last: net.split(out, few, deep=None))
    _heads(net, c[2:], size // 32, light=False)
    return _whole(net)


def yolo11(depth: float, width: float, most: int, *, deep: bool, size: int = 640) -> Costs:
    """YOLO11."""
    c = [_wide(n, width, most) for n in (64, 128, 256, 512, 1024)]
    count = max(round(2 * depth), 1)
    net = _Detector(size)
    net.act(c[0], 3, 2).act(c[1], 3, 2).split(c[2], count, deep=deep, share=4)
    net.act(c[2], 3, 2).split(c[3], count, deep=deep, share=4)
    net.act(c[3], 3, 2).split(c[3], count, deep=True)
    net.act(c[4], 3, 2).split(c[4], count, deep=True).pools(c[4])
    half = c[4] // 2
    net.act(2 * half, 1)
    for _ in range(count):  # attention over the smallest map
        net.channels = half
        net.conv(2 * half, 1)
        tokens = net.size**2
        net.add("linear", tokens * tokens * half * 3 // 2, 2 * half * tokens, half * tokens)
        net.add("reduce", 0, tokens * tokens, tokens * tokens)
        net.channels = half
        net.conv(half, 3, groups=half).conv(half, 1, residual=True)
        net.act(2 * half, 1).conv(half, 1, residual=True)
    net.join(2 * half).act(c[4], 1)
    _neck(net, c, size // 32, lambda out, last: net.split(out, count, deep=deep or last))
    _heads(net, c[2:], size // 32, light=True)
    return _whole(net)


def _neck(net: _Detector, c: list[int], small: int, block: Callable[[int, bool], object]) -> None:
    """Two upsampling and two downsampling paths between the last three maps."""
    for side, below, other, out in ((2 * small, c[4], c[3], c[3]), (4 * small, c[3], c[3], c[2])):
        net.at(side, below).move("resize")
        net.join(below + other)
        block(out, False)
    for wide, out, last in ((c[2], c[3], False), (c[3], c[4], True)):
        net.act(wide, 3, 2).join(wide + out)
        block(out, last)


def _heads(net: _Detector, channels: list[int], small: int, *, light: bool) -> None:
    boxes, names = max(16, channels[0] // 4, 64), max(channels[0], min(CLASSES, 100))
    for level, count in enumerate(channels):
        side = 4 * small // 2**level
        net.at(side, count).act(boxes, 3).act(boxes, 3).conv(64, 1)
        net.at(side, count)
        for _ in range(2):
            if light:
                net.act(net.channels, 3, groups=net.channels).act(names, 1)
            else:
                net.act(names, 3)
        net.conv(CLASSES, 1)


def _wide(channels: int, width: float, most: int) -> int:
    return -(-int(min(channels, most) * width) // 8) * 8


def _whole(net: Net) -> Costs:
    return Costs(kernels=tuple(net.kernels), params=net.params, nonzero_params=net.params)


DETECTORS: dict[str, Callable[[], Costs]] = {
    "yolox-tiny": lambda: yolox(0.33, 0.375, 416),
    "yolox-s": lambda: yolox(0.33, 0.5),
    "yolox-m": lambda: yolox(0.67, 0.75),
    "yolox-l": lambda: yolox(1.0, 1.0),
    "yolox-x": lambda: yolox(1.33, 1.25),
    "yolov8n": lambda: yolov8(0.33, 0.25, 1024),
    "yolov8s": lambda: yolov8(0.33, 0.5, 1024),
    "yolov8m": lambda: yolov8(0.67, 0.75, 768),
    "yolov8l": lambda: yolov8(1.0, 1.0, 512),
    "yolov8x": lambda: yolov8(1.0, 1.25, 512),
    "yolo11n": lambda: yolo11(0.5, 0.25, 1024, deep=False),
    "yolo11s": lambda: yolo11(0.5, 0.5, 1024, deep=False),
    "yolo11m": lambda: yolo11(0.5, 1.0, 512, deep=True),
    "yolo11l": lambda: yolo11(1.0, 1.0, 512, deep=True),
    "yolo11x": lambda: yolo11(1.0, 1.5, 512, deep=True),
}
