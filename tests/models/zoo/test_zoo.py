"""Contract kit of the published nets: their sizes, units, channel groups and exported files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nas.compression.pruning.channel_groups import trace_channel_groups
from nas.models.base import PublishedSize, ZooModel
from nas.models.zoo.plain_cnn import plain_cnn
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.onnx_export.parity import check_parity
from nas.registry import load, names
from search_spaces._base import HEAD, STEM

MODELS = names("model")
LARGE_PARAMS = 10_000_000
"""Above this number of parameters a net takes seconds to build; it is exported at an eighth of its width."""


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> ZooModel:
    member: ZooModel = load("model", request.param)
    assert member.name == request.param
    return member


def _published() -> list[tuple[str, PublishedSize]]:
    return [(name, fact) for name in MODELS for fact in load("model", name).published_params]


def test_source_notes_and_size_are_there(model: ZooModel) -> None:
    assert model.source.startswith("https://")
    assert model.notes.endswith(".")
    assert model.published_params


@pytest.mark.parametrize(("name", "fact"), _published(), ids=lambda v: v if isinstance(v, str) else str(v.params))
def test_number_of_parameters_is_the_published_one(name: str, fact: PublishedSize) -> None:
    with torch.device("meta"):
        net = load("model", name).build(input_shape=fact.input_shape, classes=fact.classes, **fact.options)
    params = sum(p.numel() for p in net.parameters())
    assert params == pytest.approx(fact.params, rel=fact.tolerance, abs=0)


def test_children_are_units_in_the_order_of_execution(model: ZooModel) -> None:
    with torch.device("meta"):
        net = model.build(input_shape=(1, 48, 48), classes=7)
    units = [name for name, _ in net.named_children()]
    stages = [f"stage{i}" for i in range(1, len(units) - 2)]
    assert units == ["prepare", STEM, *stages, HEAD]


@pytest.mark.parametrize("input_shape", [(1, 48, 48), (3, 64, 64)])
def test_channels_of_every_layer_can_be_traced(model: ZooModel, input_shape: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        net = model.build(input_shape=input_shape, classes=5)
    weighted = {n for n, m in net.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)}
    assert weighted <= {layer.name for layer in trace_channel_groups(net, input_channels=input_shape[0]).layers}


@pytest.mark.parametrize("input_shape", [(1, 48, 48), (3, 64, 64)])
def test_exported_file_computes_what_torch_computes(
    model: ZooModel, input_shape: tuple[int, int, int], tmp_path: Path
) -> None:
    net = _build_small(model, input_shape)
    _update_running_statistics(net, input_shape)
    pictures = np.random.default_rng(0).integers(0, 256, (4, *input_shape), dtype=np.uint8)
    graph = fold(net, input_shape=input_shape)
    path = tmp_path / "net.onnx"
    export_onnx(graph, path, input_shape=input_shape, classes=tuple("abcde"), metadata={})
    session = load("runtime", "onnxruntime").load(path)
    try:
        check_parity(graph, session, pictures, path=path)
    finally:
        session.close()


def test_images_need_not_be_square() -> None:
    net = load("model", "resnet8").build(input_shape=(1, 40, 32), classes=3).eval()
    assert net(torch.zeros(2, 1, 40, 32)).shape == (2, 3)


def test_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="depth"):
        load("model", "resnet8").build(input_shape=(1, 48, 48), classes=3, depth=4)


def _build_small(model: ZooModel, input_shape: tuple[int, int, int]) -> torch.nn.Module:
    with torch.device("meta"):
        params = sum(p.numel() for p in model.build(input_shape=input_shape, classes=5).parameters())
    options = {"width": 0.125} if params > LARGE_PARAMS else {}
    torch.manual_seed(0)
    return model.build(input_shape=input_shape, classes=5, **options)


def _update_running_statistics(net: torch.nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Give batch norms statistics other than 0 and 1, so that folding changes the weights."""
    pixels = torch.randint(0, 256, (3, *input_shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.train()(pixels.float())
    net.eval()


def test_strides_replace_the_pools_of_a_plain_cnn() -> None:
    net = plain_cnn(input_shape=(1, 48, 48), classes=7, widths=(16, 32), convs=(1, 3), stem_stride=2, pool=False).eval()
    kinds = [type(module) for module in net.modules()]
    assert kinds.count(nn.MaxPool2d) == 0
    assert [module.stride[0] for module in net.modules() if isinstance(module, nn.Conv2d)] == [2, 2, 1, 1]
    with torch.no_grad():
        assert net[:-1](torch.zeros(1, 1, 48, 48)).shape == (1, 32, 12, 12)


@pytest.mark.parametrize("convs", [(1,), (1, 0), (1, 2, 3)])
def test_convolutions_of_a_plain_cnn_must_fit_its_widths(convs: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one positive number of convolutions for each of the 2 widths"):
        plain_cnn(input_shape=(1, 48, 48), classes=7, widths=(16, 32), convs=convs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "maybe"}, "pool must be of bool, but got 'maybe'"),
        ({"convs": 3}, r"convs must be of tuple\[int, ...\], but got 3"),
        ({"stem_stride": 1.5}, "stem_stride must be of int, but got 1.5"),
    ],
)
def test_an_option_of_another_kind_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("model", "plain_cnn").build(input_shape=(1, 48, 48), classes=7, **options)
