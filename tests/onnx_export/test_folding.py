"""Folding simplifies the graph and leaves the logits unchanged."""

import operator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.errors import ExportError
from nas.onnx_export.folding import fold, has_parameters, module_nodes, module_of, replace_inputs, trace, unit_name
from nas.onnx_export.functional import Affine, Subtract
from nas.onnx_export.opaque_region import Region
from search_spaces._leaf import Add, Concat, Normalise, Scale
from tests.random_nets import SHAPE, SPACES, pictures, random_net


class Functional(nn.Module):
    """A net that calls functions and methods instead of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, size=(20, 24), mode="bilinear", align_corners=False)
        x = F.relu(self.stem((x - 127.5) / 64 * 0.5 + 0.25))
        gate = F.adaptive_avg_pool2d(x, 1)
        x = torch.cat([x + x, x * gate], dim=1)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("space_name", SPACES)
@pytest.mark.parametrize("seed", range(3))
def test_a_folded_net_gives_the_same_logits(space_name: str, seed: int) -> None:
    net = random_net(space_name, seed=seed).net
    before = {k: v.clone() for k, v in net.state_dict().items()}
    graph = fold(net, input_shape=SHAPE)
    pixels = torch.from_numpy(pictures(8, seed=99)).float()
    with torch.no_grad():
        torch.testing.assert_close(graph(pixels), net(pixels), rtol=1e-3, atol=1e-3)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items()), "fold must not change its argument"


def test_batch_norm_dropout_and_scales_are_folded_away() -> None:
    net = nn.Sequential(
        Normalise(), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1)
    )
    graph = fold(net, input_shape=SHAPE)
    kinds = [type(module_of(graph, node)) for node in module_nodes(graph)]
    assert kinds == [Subtract, nn.Conv2d, nn.ReLU, nn.AdaptiveAvgPool2d]


def test_a_norm_stays_if_its_convolution_has_other_readers() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.add = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), Add()

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            total: Tensor = self.add(y, self.norm(y))
            return total

    graph = fold(Shared(), input_shape=SHAPE)
    assert any(isinstance(module_of(graph, node), nn.BatchNorm2d) for node in module_nodes(graph))


def test_functions_become_modules() -> None:
    net = Functional().eval()
    graph = trace(net)
    kinds = {type(module_of(graph, node)) for node in module_nodes(graph)}
    assert {Add, Concat, Scale, Affine, Subtract, nn.ReLU, nn.Upsample, nn.AdaptiveAvgPool2d} <= kinds
    assert not [node for node in graph.graph.nodes if node.op in ("call_function", "call_method")]
    pixels = torch.from_numpy(pictures(4, seed=1)).float()
    torch.testing.assert_close(graph(pixels), net(pixels), rtol=1e-5, atol=1e-5)


def test_data_dependent_control_flow_is_rejected() -> None:
    with pytest.raises(ExportError, match=r"must be traceable by torch\.fx, but Branching is not"):
        fold(Branching(), input_shape=SHAPE)


def test_a_function_without_a_module_is_named() -> None:
    with pytest.raises(ExportError, match="'cumsum' calls cumsum; wrap it"):
        trace(Sum())


def test_a_function_without_a_module_becomes_a_region_where_sizes_are_known() -> None:
    graph = fold(Sum(), input_shape=SHAPE)
    assert [type(module_of(graph, node)) for node in module_nodes(graph)] == [Region]


def test_batch_norm_without_statistics_is_rejected() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(ExportError, match="track_running_stats=True"):
        fold(net, input_shape=SHAPE)


def test_a_net_with_nan_logits_is_rejected() -> None:
    conv = nn.Conv2d(1, 4, 3)
    nn.init.constant_(conv.weight, float("nan"))
    with pytest.raises(ExportError, match="must compute what the net does, but its logits differ by nan"):
        fold(nn.Sequential(conv), input_shape=SHAPE)


@pytest.mark.parametrize("function", [operator.add, operator.mul])
def test_arithmetic_with_a_constant_on_either_side(function: object) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            left: Tensor = function(3.0, x)  # type: ignore[operator]
            right: Tensor = function(left, 0.5)  # type: ignore[operator]
            return right

    net, x = Constant(), torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(trace(net)(x), net(x))


def test_a_unit_is_the_first_component_of_a_name() -> None:
    graph = trace(nn.Sequential(nn.Sequential(nn.ReLU())))
    assert [unit_name(node) for node in module_nodes(graph)] == ["0"]
    assert (unit_name("stage1.cell0.conv"), unit_name("stem")) == ("stage1", "stem")


def test_only_the_given_readers_get_the_replacement() -> None:
    graph = trace(Functional())
    source = module_nodes(graph)[0]
    readers = list(source.users)
    other = next(node for node in graph.graph.nodes if node.op == "placeholder")
    replace_inputs(source, other, readers[:1])
    assert source not in readers[0].all_input_nodes
    assert list(source.users) == readers[1:]


def test_parameters_of_children_count() -> None:
    assert has_parameters(nn.Sequential(nn.Conv2d(1, 1, 1)))
    assert not has_parameters(nn.Sequential(nn.ReLU()))
