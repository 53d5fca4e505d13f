"""Splitting user-defined nets into units: units of layers, unchanged outputs, and refusals that name the layer."""

import pytest
import torch
from torch import nn

from nas.errors import BuildError, ExportError
from nas.models.user_model_units import Preprocessing, is_split_into_stages, split_into_stages
from nas.onnx_export.folding import fold
from nas.onnx_export.opaque_region import Region
from nas.registry import load, names
from tests import outside_nets as nets

SHAPE = (1, 32, 32)


def prepare(**fields: float) -> Preprocessing:
    return Preprocessing(**({"size": None, "mean": 127.5, "std": 64.0, "repeat": 1} | fields))  # type: ignore[arg-type]


def units(net: nn.Module) -> dict[str, list[str]]:
    """The layers of each child, in order."""
    return {
        unit: [name for name, m in child.named_modules() if name and not list(m.children())]
        for unit, child in net.named_children()
    }


def split(net: nn.Module, **fields: float) -> nn.Module:
    return split_into_stages(net.eval(), prepare(**fields), input_shape=SHAPE, classes=3)


def test_stages_of_a_residual_net_are_cut_where_the_map_shrinks() -> None:
    layers = units(split(nets.ResNet()))
    assert list(layers) == ["prepare", "stem", "stage1", "stage2", "head"]
    assert layers["stem"] == ["conv1", "bn1", "relu"]
    assert {name.split(".")[0] for name in layers["stage1"]} == {"maxpool", "layer1", "add", "add_1"}
    assert {name.split(".")[0] for name in layers["stage2"]} == {"layer2", "add_2"}
    assert "layer2.0.downsample.0" in layers["stage2"]
    assert layers["head"] == ["avgpool", "flatten", "fc"]


def test_shared_activation_is_copied_for_each_call() -> None:
    layers = units(split(nets.ResNet()))
    assert [name for name in layers["stage2"] if "relu" in name] == ["layer2.0.relu", "layer2.0.relu_"]


def test_classifying_convolution_is_in_the_head_and_the_softmax_is_dropped() -> None:
    layers = units(split(nets.Functional()))
    assert layers["stem"] == ["c1", "b1", "relu"]
    assert layers["stage1"] == ["c2", "relu_1", "dw", "pw"]
    assert layers["stage2"] == ["max_pool2d", "res", "add", "dropout"]
    assert layers["head"] == ["last", "adaptive_avg_pool2d", "view"]


def test_head_begins_at_the_flattening() -> None:
    assert units(split(nets.Vgg()))["head"] == ["reshape", *(f"classifier.{i}" for i in range(4))]


@pytest.mark.parametrize("make", [nets.ResNet, nets.Functional, nets.Vgg])
def test_outputs_are_those_of_the_net_on_normalised_pixels(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = make().eval()
    image = torch.randint(0, 256, (4, *SHAPE)).float()
    renamed = split(net, mean=100.0, std=50.0)
    with torch.inference_mode():
        expected, outputs = net((image - 100) / 50), renamed(image)
        if make is nets.Functional:  # the exported file ends with the softmax
            outputs = outputs.softmax(1)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


def test_grey_image_is_resized_and_repeated_for_a_net_of_rgb() -> None:
    net = nets.ResNet(channels=3).eval()
    renamed = split(net, size=48, repeat=3)
    image = torch.randint(0, 256, (2, *SHAPE)).float()
    with torch.inference_mode():
        large = nn.functional.interpolate(image, (48, 48), mode="bilinear", align_corners=False)
        expected = net(((large - 127.5) / 64).repeat(1, 3, 1, 1))
        torch.testing.assert_close(renamed(image), expected, rtol=1e-4, atol=1e-5)


def test_folded_graph_has_the_same_units() -> None:
    graph = fold(split(nets.ResNet()), input_shape=SHAPE)
    names = [str(node.target).split(".")[0] for node in graph.graph.nodes if node.op == "call_module"]
    assert sorted(set(names), key=names.index) == ["prepare", "stem", "stage1", "stage2", "head"]


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (nets.Branching(), ExportError, "but Branching is not: symbolically traced variables cannot be used"),
        (nets.Bare(), BuildError, "must have a convolution between its first and its last layer"),
        (nets.Linear(), BuildError, "first layer of a net must be a Conv2d, but 'fc' is a Linear"),
        (nets.ResNet(5), BuildError, r"must return logits \[N, 3\].* returns \[N, 5\]"),
        (nets.ResNet(channels=3), BuildError, "layer 'conv1' cannot take its input"),
        (nets.Vgg(nn.Flatten()), BuildError, "layer 'features.2' cannot take|layer 'features.3' cannot take"),
    ],
)
def test_refusals_name_the_layer(net: nn.Module, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        split(net)
    assert "\n" not in str(caught.value)


def test_zoo_nets_are_split_into_stages_and_user_nets_are_not() -> None:
    for name in names("model"):
        assert is_split_into_stages(load("model", name).build(input_shape=(1, 48, 48), classes=7)), name
    assert not is_split_into_stages(nets.ResNet())
    assert is_split_into_stages(split(nets.ResNet()))


class Attention(nn.Module):
    """A residual branch with a softmax over the width, hidden by a norm whose gain begins at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.norm = nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(torch.softmax(self.query(x), dim=-1) * x)


def test_softmax_over_the_width_keeps_its_axis() -> None:
    net = nets.ResNet()
    net.layer1 = nn.Sequential(Attention())
    softmax = [m for m in split(net).modules() if isinstance(m, nn.Softmax)]
    assert [m.dim for m in softmax] == [3]


def test_rewrite_that_only_random_weights_show_is_refused() -> None:
    class Wrong(nets.ResNet):
        """A net that computes something else once its hidden branch counts: the second dropout is always active."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            gain = nn.functional.dropout(self.layer1[0].bn2(x), 0.5)
            return self.fc(torch.flatten(self.avgpool(self.layer2(x + gain)), 1))

    net = Wrong()
    nn.init.zeros_(net.layer1[0].bn2.weight)
    with pytest.raises(ExportError, match="must compute what the net does, but"):
        split(net)


@pytest.mark.parametrize("net", [nets.Loose(), nets.Twice()], ids=["tensor outside a layer", "layer called twice"])
def test_what_is_not_followed_becomes_a_region(net: nn.Module) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, *SHAPE)).float()
    renamed = split(net)
    assert any(isinstance(module, Region) for module in renamed.modules())
    with torch.inference_mode():
        torch.testing.assert_close(renamed(images), net((images - 127.5) / 64), rtol=1e-4, atol=1e-5)


def test_net_in_data_parallel_is_unwrapped() -> None:
    assert units(split(nn.DataParallel(nets.ResNet()))) == units(split(nets.ResNet()))
