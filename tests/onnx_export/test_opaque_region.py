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


@pytest.mark.parametrize(("body", "n_regions"), [(Sizes(), 0), (Tokens(), 3)], ids=["sizes", "tokens"])
def test_file_computes_what_the_net_computes(body: nn.Module, n_regions: int, tmp_path: Path) -> None:
    split = staged(body)
    assert sum(isinstance(module, Region) for module in split.modules()) == n_regions
    graph, path = fold(randomised(split), input_shape=SHAPE), tmp_path / "net.onnx"
    export_onnx(graph, path, input_shape=SHAPE, classes=("a", "b", "c"), metadata={})
    check_logits(graph, path, probe_images(SHAPE).numpy().astype(np.uint8), load=RUNTIME.load)
    check_pruning_is_exact(split, input_shape=SHAPE)


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
