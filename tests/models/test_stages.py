"""Nets from outside in units: which layer goes where, that they still compute the same, and refusals by name."""

import pytest
import torch
from torch import nn

from nas.errors import BuildError, ExportError
from nas.models.stages import Preprocessing, is_split_into_stages, split_into_stages
from nas.onnx_export.folding import fold
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


def put(net: nn.Module, **fields: float) -> nn.Module:
    return split_into_stages(net.eval(), prepare(**fields), input_shape=SHAPE, classes=3)


def test_the_stages_of_a_residual_net_are_cut_where_the_map_shrinks() -> None:
    found = units(put(nets.ResNet()))
    assert list(found) == ["prepare", "stem", "stage1", "stage2", "head"]
    assert found["stem"] == ["conv1", "bn1", "relu"]
    assert {name.split(".")[0] for name in found["stage1"]} == {"maxpool", "layer1", "add", "add_1"}
    assert {name.split(".")[0] for name in found["stage2"]} == {"layer2", "add_2"}
    assert "layer2.0.downsample.0" in found["stage2"]
    assert found["head"] == ["avgpool", "flatten", "fc"]


def test_a_shared_activation_becomes_one_for_each_call() -> None:
    found = units(put(nets.ResNet()))
    assert [name for name in found["stage2"] if "relu" in name] == ["layer2.0.relu", "layer2.0.relu_"]


def test_a_convolution_that_classifies_is_of_the_head_and_its_softmax_goes() -> None:
    found = units(put(nets.Functional()))
    assert found["stem"] == ["c1", "b1", "relu"]
    assert found["stage1"] == ["c2", "relu_1", "dw", "pw"]
    assert found["stage2"] == ["max_pool2d", "res", "add", "dropout"]
    assert found["head"] == ["last", "adaptive_avg_pool2d", "view"]


def test_a_head_begins_at_the_flattening() -> None:
    assert units(put(nets.Vgg()))["head"] == ["reshape", *(f"classifier.{i}" for i in range(4))]


@pytest.mark.parametrize("make", [nets.ResNet, nets.Functional, nets.Vgg])
def test_it_computes_what_the_net_did_of_normalised_pixels(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = make().eval()
    image = torch.randint(0, 256, (4, *SHAPE)).float()
    found = put(net, mean=100.0, std=50.0)
    with torch.inference_mode():
        want, got = net((image - 100) / 50), found(image)
        if make is nets.Functional:  # the exported file ends with the softmax
            got = got.softmax(1)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_a_gray_image_is_repeated_and_resized_for_a_net_that_wants_it() -> None:
    net = nets.ResNet(channels=3).eval()
    found = put(net, size=48, repeat=3)
    image = torch.randint(0, 256, (2, *SHAPE)).float()
    with torch.inference_mode():
        large = nn.functional.interpolate(image, (48, 48), mode="bilinear", align_corners=False)
        torch.testing.assert_close(found(image), net(((large - 127.5) / 64).repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5)


def test_it_folds_to_a_graph_of_the_same_units() -> None:
    graph = fold(put(nets.ResNet()), input_shape=SHAPE)
    found = [str(node.target).split(".")[0] for node in graph.graph.nodes if node.op == "call_module"]
    assert sorted(set(found), key=found.index) == ["prepare", "stem", "stage1", "stage2", "head"]


@pytest.mark.parametrize(
    ("net", "error", "words"),
    [
        (nets.Loose(), BuildError, "must be in layers, but 'gain' is a tensor of its own"),
        (nets.Branching(), ExportError, "but Branching is not: symbolically traced variables cannot be used"),
        (nets.Twice(), BuildError, "'same' is called twice"),
        (nets.Bare(), BuildError, "must have a convolution between its first and its last layer"),
        (nets.Linear(), BuildError, "first layer of a net must be a Conv2d, but 'fc' is a Linear"),
        (nets.ResNet(5), BuildError, r"must give logits \[N, 3\].* gives \[N, 5\]"),
        (nets.ResNet(channels=3), BuildError, "layer 'conv1' cannot take what reaches it"),
        (nets.Vgg(nn.Flatten()), BuildError, "layer 'features.2' cannot take|layer 'features.3' cannot take"),
    ],
)
def test_a_net_that_cannot_be_put_into_units_is_refused_by_its_layer(
    net: nn.Module, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        put(net)
    assert "\n" not in str(caught.value)


def test_nets_of_the_zoo_are_in_units_already_and_nets_from_outside_are_not() -> None:
    for name in names("model"):
        assert is_split_into_stages(load("model", name).build(input_shape=(1, 48, 48), classes=7)), name
    assert not is_split_into_stages(nets.ResNet())
    assert is_split_into_stages(put(nets.ResNet()))
