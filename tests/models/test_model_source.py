"""Words after --model: their parts, what they build, and what is refused in one line."""

import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from nas.errors import ConfigError, MissingPackageError, UserError
from nas.models.model_source import ModelSource, accepted_channels, make_model, parse_model, prepared_net

SHAPE = (1, 32, 32)


def sized(channels: int, size: int | None = None) -> nn.Module:
    """A net for images of so many channels and, if given, one size only."""
    end = nn.Flatten() if size else nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
    return nn.Sequential(nn.Conv2d(channels, 4, 3, 1, 1), end, nn.Linear(4 * (size or 4) ** 2, 3))


def create_model(name: str, *, num_classes: int, in_chans: int = 3, img_size: Any = (16, 16)) -> nn.Module:
    """As `timm.create_model`: 3 channels and 16 pixels unless asked otherwise."""
    return sized(in_chans, img_size[0] if name == "one_size" else None)


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm and torchvision with two nets each."""
    names = ["any_size", "one_size"]
    timm, torchvision, models = ModuleType("timm"), ModuleType("torchvision"), ModuleType("torchvision.models")
    vars(timm).update(create_model=create_model, list_models=lambda: names, is_model=names.__contains__)
    vars(models).update(
        list_models=lambda module: names,
        get_model=lambda name, weights, num_classes, image_size=16: create_model(
            name, num_classes=num_classes, img_size=(image_size, image_size)
        ),
    )
    vars(torchvision).update(models=models)
    for module in (timm, torchvision, models):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("resnet18", ModelSource("zoo", "resnet18")),
        ("darts_v2:cells=20,width=36", ModelSource("zoo", "darts_v2", {"cells": 20, "width": 36})),
        ("timm:a.b_in1k", ModelSource("timm", "a.b_in1k")),
        ("timm:a:depths=(2,2),act=gelu,x=None", ModelSource("timm", "a", {"depths": (2, 2), "act": "gelu", "x": None})),
        ("torchvision:a:norm=False", ModelSource("torchvision", "a", {"norm": False})),
        ("torchvision:a:norm=true", ModelSource("torchvision", "a", {"norm": True})),
        ("mypkg.nets:build", ModelSource("factory", "mypkg.nets:build")),
        ("mypkg.nets:build:width=0.5", ModelSource("factory", "mypkg.nets:build", {"width": 0.5})),
    ],
)
def test_words_have_an_origin_a_name_and_options(word: str, expected: ModelSource) -> None:
    assert parse_model(word) == expected


def test_options_of_zoo_words_reach_the_published_form() -> None:
    published = make_model("resnet18:width=64", input_shape=(3, 48, 48), classes=1000)
    stem_saving = 64 * 3 * (7 * 7 - 3 * 3)  # a 3x3 stem in place of the paper's 7x7
    assert sum(p.numel() for p in published.parameters()) == 11_689_512 - stem_saving


def test_options_reach_factories() -> None:
    net = make_model("tests.models.test_model_source:sized:channels=3", input_shape=SHAPE, classes=3)
    assert accepted_channels(net, SHAPE) == 3


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(("word", "channels"), [("timm:any_size", 3), ("timm:any_size:in_chans=1", 1)])
def test_library_nets_keep_their_channels_unless_an_option_sets_them(word: str, channels: int) -> None:
    assert accepted_channels(make_model(word, input_shape=SHAPE, classes=3), SHAPE) == channels


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("word", ["timm:one_size", "torchvision:one_size"])
def test_library_nets_of_one_size_are_built_for_the_images(word: str, caplog: pytest.LogCaptureFixture) -> None:
    assert accepted_channels(make_model(word, input_shape=SHAPE, classes=3), SHAPE) == 3
    assert "is built for the images' size" in caplog.text


@pytest.mark.usefixtures("libraries")
def test_an_image_size_that_is_given_is_kept() -> None:
    net = make_model("timm:one_size:img_size=(8,8)", input_shape=SHAPE, classes=3)
    assert accepted_channels(net, SHAPE) is None
    assert net(torch.zeros(1, 3, 8, 8)).shape == (1, 3)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("timm:", "must be timm:NAME, but got 'timm:'"),
        ("timm:any_sise", "timm must have the model, .*'any_sise'; did you mean 'any_size'"),
        ("torchvision:vgg", "torchvision must have the model, but has none of the name 'vgg'"),
        ("timm:any_size:drop=0.1", "timm:any_size must be built with drop=0.1, but timm raised TypeError"),
        ("resnet18:width", "must be NAME=VALUE,NAME=VALUE, but 'resnet18:width' has 'width'"),
        ("resnet18:width=8,width=9", "must be given once, but .* has 'width' twice"),
        ("resnet18:depth=9", "options of model resnet18 must be of width, stages, blocks, stem_stride, widths, but"),
        ("tests.models.test_model_source:sized:depth=9", "must build a net, but raised TypeError"),
    ],
)
def test_words_that_build_nothing_are_refused_in_one_line(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_model(word, input_shape=SHAPE, classes=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_missing_library_is_named_with_the_line_that_installs_it(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    needed = rf"models of {library} need {library}, but torchvision.*pip install --no-deps .*torchvision"
    with pytest.raises(MissingPackageError, match=needed):
        make_model(f"{library}:resnet18", input_shape=SHAPE, classes=3)


def test_torchvision_is_used_without_its_compiled_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "torchvision"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import torch\n@torch.library.register_fake('torchvision::nms')\ndef nms(a, b, c): return a\n"
    )
    (package / "models" / "__init__.py").write_text(
        "from torch import nn\ndef list_models(module): return ['linear']\n"
        "def get_model(name, weights, num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(1024, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    net = make_model("torchvision:linear", input_shape=SHAPE, classes=5)
    assert net(torch.zeros(1, *SHAPE)).shape == (1, 5)
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.delitem(sys.modules, name)


class Wrapped(nn.Module):
    """As torch.compile wraps."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._orig_mod = net


Wrapped.__name__ = "OptimizedModule"


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, torch.optim.swa_utils.AveragedModel, Wrapped, lambda net: nn.DataParallel(Wrapped(net))]
)
def test_wrappers_are_taken_off(wrap: Any) -> None:
    net = sized(1)
    inner = prepared_net(wrap(net), input_shape=SHAPE)
    assert type(inner) is nn.Sequential
    assert inner.state_dict().keys() == net.state_dict().keys()


def test_lazy_layers_get_their_sizes_from_the_images() -> None:
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))
    net = prepared_net(lazy, input_shape=SHAPE)
    assert {name: tuple(p.shape) for name, p in net.named_parameters()} == {
        "0.weight": (4, 1, 3, 3), "0.bias": (4,), "2.weight": (3, 4 * 30 * 30), "2.bias": (3,)
    }  # fmt: skip


def test_lazy_layers_without_a_size_and_archives_are_refused() -> None:
    with pytest.raises(ConfigError, match="lazy layers must get their sizes from an image"):
        prepared_net(nn.Sequential(nn.Linear(5, 5), nn.LazyConv2d(4, 3)), input_shape=SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, but its archives are around
        archive = torch.jit.trace(sized(1), torch.zeros(1, *SHAPE))
    with pytest.raises(ConfigError, match=r"must be Python code, .* TorchScript archive"):
        prepared_net(archive, input_shape=SHAPE)


class Repeats(nn.Module):
    """Its first convolution reads three channels, but it takes one."""

    def __init__(self) -> None:
        super().__init__()
        self.net = sized(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.repeat(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("net", "shape", "expected"),
    [
        (sized(1), (1, 32, 32), 1),
        (sized(3), (1, 32, 32), 3),
        (Repeats(), (1, 32, 32), 1),
        (sized(3), (3, 32, 32), 3),
        (sized(1), (3, 32, 32), None),
        (sized(2), (1, 32, 32), None),
    ],
)
def test_channels_are_those_with_which_the_net_runs(
    net: nn.Module, shape: tuple[int, int, int], expected: int | None
) -> None:
    assert accepted_channels(net.eval(), shape) == expected


def test_a_net_without_data_is_refused() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(1, 4, 3))
    with pytest.raises(ConfigError, match="its tensors are on the device meta; build it on the CPU"):
        prepared_net(net, input_shape=(1, 8, 8))
