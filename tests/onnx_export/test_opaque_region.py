"""Opaque regions and concrete tracing: the file computes in ONNX Runtime what the net computes in torch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.compression.pruning.pruning_check import check_pruning_is_exact
from nas.errors import BuildError, ExportError
from nas.models.user_model_units import Preprocessing, split_into_stages
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold, trace
from nas.onnx_export.opaque_region import Region
from nas.onnx_export.parity import check_logits
from nas.onnx_export.rewrite_check import probe_images, randomised
from nas.runtimes.backends.onnxruntime import RUNTIME

SHAPE = (1, 24, 24)
PIXELS = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))


class Sizes(nn.Module):
    """Assertions and branches on sizes, squeeze-and-excitation by views, and a shuffle by views."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.squeeze, self.excite = nn.Conv2d(8, 16, 3, 2), nn.Linear(16, 4), nn.Linear(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4
        if x.shape[2] % 2 == 0:
            x = F.pad(x, (0, 1, 0, 1))
        x = F.leaky_relu(self.conv(x), 0.1)
        n, c, h, w = x.shape
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        x = x * gate.view(n, c, 1, 1).expand_as(x)
        a, b = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w).chunk(2, 1)
        return torch.cat([a - b, torch.maximum(a, b)], 1)


class Tokens(nn.Module):
    """Attention and a layer norm over tokens, with a scale that is a tensor outside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 16, 3, 4), nn.LayerNorm(16)
        self.attention, self.gamma = nn.MultiheadAttention(16, 2, batch_first=True), nn.Parameter(1e-6 * torch.ones(16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        y = self.norm(tokens)
        tokens = tokens + self.gamma * self.attention(y, y, y, need_weights=False)[0]
        return tokens.transpose(1, 2).reshape(n, c, h, w)


class Windows(nn.Module):
    """Attention in windows with a cache of its biases: the batch leaves the first axis and comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.qkv, self.out = nn.Conv2d(8, 16, 4, 3), nn.Linear(16, 48), nn.Linear(16, 16)
        self.norm, self.biases = nn.LayerNorm(16), nn.Parameter(torch.zeros(2, 4))
        self.register_buffer("places", torch.tensor([[0, 1, 2], [1, 0, 3], [2, 3, 0]]))
        self.cache: dict[str, Tensor] = {}
        self.last: Tensor | None = None

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False, *rest: int) -> Tensor:
        assert not causal
        assert mask is None
        assert rest == ()
        x = torch.roll(self.conv(x), (1, -1), (2, 3))
        n, c, h, w = x.shape
        x = x.view(n, c, h // 3, 3, w).permute(0, 2, 4, 3, 1).reshape(-1, 3, c)  # rows of three pixels
        if "cpu" not in self.cache:
            self.cache["cpu"] = self.biases[:, self.places]
        q, k, v = (
            self.qkv(F.layer_norm(x, (c,), self.norm.weight, self.norm.bias))
            .view(x.shape[0], 3, 3, 2, c // 2)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        k = k / (k.norm(dim=-1, keepdim=True) + 0.1)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=self.cache["cpu"][None], is_causal=causal)
        self.last = x
        x = self.out(x.transpose(1, 2).reshape(x.shape[0], 3, c))
        x = x.view(n, h // 3, w, 3, c).permute(0, 4, 1, 3, 2).reshape(n, c, h, w)
        grid = torch.linspace(0, 1, h)[None, None, :, None].repeat(n, 1, 1, w)  # a constant for each image
        return F.interpolate(x + grid, scale_factor=2)


@torch.fx.wrap
def biased_rows(x: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """A function that no tracer looks into: a matrix over the channels, and one table for the rows of all images."""
    n, c, h, w = x.shape
    mask = x.new_zeros((w, c))
    mask[0] = 1
    rows = F.linear(x.permute(0, 2, 3, 1).reshape(n * h, w, c), weight) + table * mask
    return rows.view(n, h, w, c).permute(0, 3, 1, 2)


class Table(nn.Module):
    """A function of the image, a weight and a table [1, W, C] that is computed from a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.matrix, self.table = nn.Conv2d(8, 16, 3, 4), nn.Linear(16, 16), nn.Parameter(torch.ones(3, 16))

    def forward(self, x: Tensor) -> Tensor:
        return biased_rows(self.conv(x), self.matrix.weight, torch.sigmoid(self.table)[None])


class InPlace(nn.Module):
    """Calls in place on a tensor that is read under its old name afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.relu = nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        self.second = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = kept = self.norm(self.first(x))
        y = self.second(self.relu(x)) + kept
        y.mul_(0.5)
        F.leaky_relu(y, 0.1, inplace=True)
        kept += y
        return x - y


class Coordinates(nn.Module):
    """Coordinates of the pixels as further channels, one map for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(9, 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.linspace(-1, 1, x.shape[2]).view(1, 1, -1, 1).expand(x.shape[0], 1, -1, x.shape[3])
        return self.conv(torch.cat([x, rows], 1))


class Tied(nn.Module):
    """A convolution, and its weight in a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(8, 16, 1, bias=False), nn.Conv2d(8, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.conv_transpose2d(F.relu(self.conv(x)), self.conv.weight))


class DataDependent(nn.Module):
    """A branch on the image's values in a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if x.sum() > 0 else -x)


def net(body: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3, 2), nn.ReLU(), body, nn.Conv2d(16, 16, 3, padding=1), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3)).eval()


def staged(body: nn.Module) -> nn.Module:
    prepare = Preprocessing(size=None, mean=127.5, std=64.0, repeat=1)
    return split_into_stages(net(body), prepare, input_shape=SHAPE, classes=3)


@pytest.mark.parametrize(
    ("body", "n_regions"),
    [(Sizes(), 0), (Tokens(), 3), (Windows(), 5), (Table(), 2)],
    ids=["sizes", "tokens", "windows", "table"],
)
def test_file_computes_what_the_net_computes(body: nn.Module, n_regions: int, tmp_path: Path) -> None:
    split = staged(body)
    assert sum(isinstance(module, Region) for module in split.modules()) == n_regions
    graph, path = fold(randomised(split), input_shape=SHAPE), tmp_path / "net.onnx"
    export_onnx(graph, path, input_shape=SHAPE, classes=("a", "b", "c"), metadata={})
    check_logits(graph, path, probe_images(SHAPE).numpy().astype(np.uint8), load=RUNTIME.load)
    check_pruning_is_exact(split, input_shape=SHAPE)


@pytest.mark.parametrize("body", [InPlace(), Coordinates(), Tied()], ids=["in place", "coordinates", "tied"])
def test_graph_computes_what_the_net_computes_in_batches_of_any_size(body: nn.Module) -> None:
    split = randomised(staged(body))
    graph, images = trace(split, input_shape=SHAPE), probe_images(SHAPE, count=5)
    with torch.no_grad():
        torch.testing.assert_close(graph(images), split(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(graph(images[:1]), split(images)[:1], rtol=1e-4, atol=1e-4)
    check_pruning_is_exact(split, input_shape=SHAPE)


def test_a_trace_leaves_caches_and_attributes_of_the_net_alone() -> None:
    body = Windows()
    whole = net(body)
    trace(whole, input_shape=SHAPE)
    assert body.cache == {}
    assert body.last is None
    whole(torch.zeros(1, *SHAPE))
    filled = dict(body.cache)
    graph = trace(whole, input_shape=SHAPE)
    assert body.cache == filled
    with torch.no_grad():
        body.biases.normal_()  # were the cached biases a constant of the graph, it would not follow
        body.cache.clear()
        torch.testing.assert_close(graph(PIXELS), whole(PIXELS))


def test_a_net_that_takes_more_than_an_image_is_refused() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, x: Tensor, landmarks: Tensor) -> Tensor:
            return self.conv(x) + landmarks

    with pytest.raises(BuildError, match="must take one image, but its forward pass takes 'landmarks' too"):
        trace(Pair(), input_shape=SHAPE)


def test_a_module_whose_branches_depend_on_pixels_is_a_region_that_torch_refuses(tmp_path: Path) -> None:
    graph = trace(net(DataDependent()), input_shape=SHAPE)
    assert [type(m.inner) for m in graph.modules() if isinstance(m, Region)] == [DataDependent]
    with pytest.raises(ExportError, match="torch must be able to export a DataDependent, but cannot"):
        export_onnx(graph, tmp_path / "net.onnx", input_shape=SHAPE, classes=("a", "b", "c"), metadata={})


def test_a_layer_that_cannot_take_its_input_is_named() -> None:
    with pytest.raises(BuildError, match="layer '2' cannot take its input"):
        trace(net(nn.Conv2d(5, 16, 3)), input_shape=SHAPE)


def test_class_derived_from_a_layer_is_followed_by_what_it_computes() -> None:
    class NormAct(nn.BatchNorm2d):
        """As timm's BatchNormAct2d: an assertion, the norm as a function, and an activation."""

        def forward(self, x: Tensor) -> Tensor:
            assert x.ndim == 4
            return F.relu(
                F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
            )

    graph = trace(net(nn.Sequential(nn.Conv2d(8, 16, 3), NormAct(16))), input_shape=SHAPE)
    kinds = [type(module) for module in graph.modules()]
    assert nn.BatchNorm2d in kinds
    assert Region not in kinds
