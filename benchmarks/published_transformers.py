"""Published vision transformers as lists of fused FP16 kernels: ViT, MobileViT and SegFormer.

The architectures follow the papers and timm's defaults: ViT (arXiv 2010.11929, sizes of DeiT, 2012.12877), MobileViT
(2110.02178), SegFormer (2105.15203). Layer normalisation, softmax, GELU and SiLU are kernels of their own.
"""

from collections.abc import Callable

from benchmarks.kernel_list import Net
from nas.latency.costs import Costs


class _Transformer(Net):
    """Tokens are a map [size, size], so that a linear layer over channels is a 1x1 convolution."""

    def normalised(self) -> "_Transformer":
        self.move("reduce")
        return self

    def attention_over(self, queries: int, keys: int, *, groups: int = 1) -> "_Transformer":
        """Attention over all channels: two products and a softmax, in `groups` sets of tokens."""
        width = self.channels
        pairs = groups * queries * keys
        self.add("linear", pairs * width, groups * (queries + keys) * width, pairs)
        self.add("reduce", 0, pairs, pairs)
        self.add("linear", pairs * width, pairs + groups * keys * width, groups * queries * width)
        return self

    def layer(self, hidden: int, *, groups: int = 1) -> "_Transformer":
        """One encoder layer, with attention within `groups` sets of tokens."""
        width, tokens = self.channels, self.size**2 // groups
        self.normalised().conv(3 * width, 1)
        self.channels = width
        self.attention_over(tokens, tokens, groups=groups).conv(width, 1, residual=True)
        self.move("reduce").conv(hidden, 1).move("elementwise").conv(width, 1, residual=True)
        return self


def vit(width: int, layers: int = 12, size: int = 224) -> Costs:
    """ViT with 16x16 patches; the class token is left out."""
    net = _Transformer(size).conv(width, 16, 16)
    assert isinstance(net, _Transformer)
    for _ in range(layers):
        net.layer(4 * width)
    return net.normalised().head(1000)


def mobilevit(widths: tuple[int, ...], inner: tuple[int, ...], size: int = 256) -> Costs:
    """MobileViT: inverted bottlenecks of expansion 4 with SiLU, and transformers over 2x2 patches."""
    net = _Transformer(size)
    net.conv(16, 3, 2).move("elementwise")

    def bottleneck(out: int, stride: int = 1) -> None:
        source = net.channels
        wide = 4 * source
        net.conv(wide, 1).move("elementwise").conv(wide, 3, stride, groups=wide).move("elementwise")
        net.conv(out, 1, residual=stride == 1 and source == out)

    bottleneck(widths[0])
    bottleneck(widths[1], 2)
    bottleneck(widths[1])
    bottleneck(widths[1])
    for out, hidden, layers in zip(widths[2:5], inner, (2, 4, 3), strict=True):
        bottleneck(out, 2)
        net.conv(out, 3).move("elementwise").conv(hidden, 1).move("concat")
        for _ in range(layers):
            net.layer(2 * hidden, groups=4)
        net.normalised().move("concat").conv(out, 1).move("elementwise")
        net.channels = 2 * out
        net.move("concat").conv(out, 3).move("elementwise")
    return net.conv(widths[5], 1).move("elementwise").head(1000)


def segformer(widths: tuple[int, ...], layers: tuple[int, ...], decoder: int, size: int = 512) -> Costs:
    """SegFormer with 35 classes: keys and values of a smaller map, depthwise feed-forward convolutions."""
    net = _Transformer(size)
    maps = []
    for stage, (width, count, shrink) in enumerate(zip(widths, layers, (8, 4, 2, 1), strict=True)):
        net.conv(width, 3 if stage else 7, 2 if stage else 4).move("reduce")
        for _ in range(count):
            side = net.size
            net.normalised().conv(width, 1)
            if shrink > 1:
                net.conv(width, shrink, shrink).move("reduce")
            net.conv(2 * width, 1)
            few, net.size, net.channels = net.size**2, side, width
            net.attention_over(side**2, few).conv(width, 1, residual=True).move("reduce")
            net.conv(4 * width, 1).conv(4 * width, 3, groups=4 * width).move("elementwise")
            net.conv(width, 1, residual=True)
        net.normalised()
        maps.append((net.size, width))
    full_size = maps[0][0]
    for side, width in maps:
        net.size, net.channels = side, width
        net.conv(decoder, 1)
        net.size = full_size
        net.move("resize")
    net.channels = len(maps) * decoder
    net.move("concat").conv(decoder, 1).conv(35, 1)
    return Costs(kernels=tuple(net.kernels), params=net.params, nonzero_params=net.params)


TRANSFORMERS: dict[str, Callable[[], Costs]] = {
    "vit-tiny": lambda: vit(192),
    "vit-small": lambda: vit(384),
    "vit-base": lambda: vit(768),
    "mobilevit-s": lambda: mobilevit((32, 64, 96, 128, 160, 640), (144, 192, 240)),
    "segformer-b0": lambda: segformer((32, 64, 160, 256), (2, 2, 2, 2), 256),
}
