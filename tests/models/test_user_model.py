"""User-defined models as search spaces of one architecture: widths, narrow forms, weights and refusals."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.candidate import decode
from nas.compression.compressors.prune_structured import transfer_channels
from nas.config import make_config
from nas.errors import ConfigError, UnknownMemberError, UserError
from nas.models.user_model import UserModelSpace, load_user_model, with_preprocessing
from nas.searcher.acquisition.candidate_features import macs
from search_spaces._base import SearchSpace
from tests import outside_nets as nets
from tests.conftest import learnable_faces

FACES = learnable_faces(train=8, val=4)
PIXELS = torch.randint(0, 256, (2, 1, 32, 32), generator=torch.Generator().manual_seed(0)).float()


@functools.cache
def load_cached(model: str) -> UserModelSpace:
    return load_space(model)


def load_space(model: str, **fields: Any) -> UserModelSpace:
    """The space of a zoo net (lower case), of a factory (with a colon), or of a class of `tests.outside_nets`."""
    spec = model if ":" in model or model.islower() else f"tests.outside_nets:{model}"
    return load_user_model(make_config(model=spec, **fields), FACES, channel_multiple=8)


def build(space: UserModelSpace, **widths: int) -> nn.Module:
    return space.build(space.decode({}), input_shape=(1, 32, 32), classes=3, widths=widths or None)


def conv_widths(net: nn.Module) -> dict[str, int]:
    return {name: m.out_channels for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}


def test_space_has_one_architecture_whose_stages_have_widths() -> None:
    space = load_space("ResNet")
    assert space.choices(channel_multiple=8) == ()
    assert space.initial_configurations(channel_multiple=8) == ({},)
    assert space.stages == ("stage1", "stage2")
    assert space.widths(space.decode({})) == {"stage1": 16, "stage2": 32}
    candidate = decode(space, {"sparsity.stage2": 0.5}, channel_multiple=8, precisions=(32, 8))
    assert candidate.space == "tests.outside_nets:ResNet"
    assert candidate.pruned == {"stage1": 16, "stage2": 16}
    assert list(candidate.bits) == ["stem", "stage1", "stage2", "head"]


def test_full_net_keeps_its_weights_and_copies_are_independent() -> None:
    space = load_space("ResNet")
    first, second = build(space), build(space)
    torch.testing.assert_close(first(PIXELS), second(PIXELS))
    for p in first.parameters():
        nn.init.zeros_(p)
    assert not torch.allclose(first(PIXELS), second(PIXELS))
    torch.testing.assert_close(second(PIXELS), build(space)(PIXELS))


def test_all_groups_of_a_stage_are_narrowed_and_the_stem_with_the_stage_it_is_added_to() -> None:
    narrow = conv_widths(build(load_space("ResNet"), stage1=8, stage2=32))
    assert narrow == {
        "stem.conv1": 8, "stage1.layer1.0.conv1": 8, "stage1.layer1.0.conv2": 8, "stage1.layer1.1.conv1": 8,
        "stage1.layer1.1.conv2": 8, "stage2.layer2.0.conv1": 32, "stage2.layer2.0.conv2": 32,
        "stage2.layer2.0.downsample.0": 32,
    }  # fmt: skip


def test_added_layers_have_the_width_of_the_last_stage_and_stem_and_logits_keep_theirs() -> None:
    narrow = conv_widths(build(load_space("Functional"), stage1=8, stage2=16))
    assert narrow == {
        "stem.c1": 8, "stage1.c2": 8, "stage1.dw": 8, "stage1.pw": 16, "stage2.res": 16, "head.last": 3
    }  # fmt: skip


@pytest.mark.parametrize("model", ["ResNet", "Functional", "Vgg", "mini_xception"])
@given(shares=st.lists(st.sampled_from([0.25, 0.5, 0.75, 1.0]), min_size=4, max_size=4))
@settings(max_examples=5, deadline=None, derandomize=True)
def test_narrow_nets_run_and_take_the_channels_of_the_wide_net(model: str, shares: list[float]) -> None:
    space = load_cached(model)
    wide = build(space).eval()
    full = space.widths(space.decode({}))
    widths = {s: max(8, round(w * share / 8) * 8) for (s, w), share in zip(full.items(), shares, strict=False)}
    widths = {s: min(w, full[s]) for s, w in widths.items()}
    slim = build(space, **widths).eval()
    assert slim(PIXELS).shape == (2, 3)
    before, after = conv_widths(wide), conv_widths(slim)
    assert before.keys() == after.keys()
    assert all(after[name] <= before[name] for name in before)
    assert all(after[name] % 8 == 0 or after[name] == before[name] for name in before)
    transfer_channels(wide, slim, input_shape=(1, 32, 32))
    if widths == full:
        torch.testing.assert_close(slim(PIXELS), wide(PIXELS))


def test_state_dicts_may_be_plain_wrapped_or_of_data_parallel(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = nets.ResNet().eval()
    plain = net.state_dict()
    forms = {"plain": plain, "wrapped": {"state_dict": plain}, "parallel": {f"module.{k}": v for k, v in plain.items()}}
    for name, state in forms.items():
        torch.save(state, tmp_path / name)
        space = load_space("ResNet", weights=tmp_path / name, mean=0.0, std=255.0)
        with torch.inference_mode():
            torch.testing.assert_close(build(space)(PIXELS), net(PIXELS / 255), rtol=1e-4, atol=1e-5)


def test_factory_is_seeded_without_changing_the_random_state() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = build(load_space("ResNet")), build(load_space("ResNet"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(first(PIXELS), second(PIXELS))


def test_a_net_that_mixes_the_images_of_a_batch_is_named(caplog: pytest.LogCaptureFixture) -> None:
    def staged(norm: nn.Module) -> None:
        layers = (nn.Conv2d(1, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with_preprocessing(nn.Sequential(*layers, nn.Linear(8, 3)).eval(), input_shape=(1, 16, 16), classes=3)

    staged(nn.BatchNorm2d(8))
    assert not caplog.messages
    staged(nn.BatchNorm2d(8, track_running_stats=False))
    assert caplog.messages[0].startswith("the model's answer for an image depends on the others of its batch")


def test_net_of_rgb_takes_grey_images() -> None:
    space = load_space("tests.outside_nets:rgb")
    assert build(space)(PIXELS).shape == (2, 3)


def test_size_and_normalisation_of_a_zoo_net_can_be_set() -> None:
    space = load_space("resnet8", input_size=64, mean=0.0, std=255.0)
    prepare = build(space).get_submodule("prepare")
    assert (prepare.normalise.mean, prepare.normalise.std, prepare.resize.size) == (0.0, 255.0, (64, 64))
    assert build(space)(PIXELS).shape == (2, 3)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("resnet9", UnknownMemberError, "model must be one of .*resnet8"),
        (
            "tests.outside_nets:",
            ConfigError,
            "must be package.module:function or file.py:function, but got 'tests.outside_nets:'",
        ),
        ("tests.outside_nets:Nope", ConfigError, "must name a function of tests.outside_nets, but 'Nope' is none"),
        ("tests.outside_nets:NUMBER", ConfigError, "must name a function of tests.outside_nets, but 'NUMBER' is none"),
        ("no_such_module:build", ConfigError, "must be importable from .* raised ModuleNotFoundError: No module named"),
        ("tests.outside_nets:broken", ConfigError, "must build a net, but raised KeyError: 'backbone'"),
        ("tests.outside_nets:nothing", ConfigError, r"must return a torch.nn.Module, but returned str"),
        ("tests.outside_nets:Branching", ConfigError, "cannot be compressed: .*Branching is not: symbolically traced"),
    ],
)
def test_models_that_cannot_be_used_are_refused_in_one_line(model: str, error: type[UserError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        load_space(model)
    assert "\n" not in str(caught.value)


def test_layer_whose_channels_cannot_be_followed_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nets, "with_norm", lambda: nets.Vgg(nn.LayerNorm(32)), raising=False)
    space = load_space("tests.outside_nets:with_norm")
    slim = space.build({}, input_shape=(1, 32, 32), classes=3, widths=dict.fromkeys(space.stages, 1))
    widths = [module.out_channels for module in slim.modules() if isinstance(module, nn.Conv2d)]
    assert widths[0] == 16  # the norm over pixels reads the stem's channels


@pytest.mark.parametrize("model", ["ResNet", "mini_xception"])
def test_workload_is_exact_in_full_width_and_within_25_percent_when_narrower(model: str) -> None:
    space = load_cached(model)
    arguments: dict[str, Any] = {"input_shape": (1, 32, 32), "classes": 3}
    full = space.workload({}, **arguments)
    assert full == SearchSpace.workload(space, {}, **arguments)
    widths = {stage: max(8, width // 2) for stage, width in space.widths({}).items()}
    estimated, counted = (
        sum(macs(w) for w in workload(space, {}, **arguments, widths=widths).values())
        for workload in (UserModelSpace.workload, SearchSpace.workload)
    )
    assert estimated == pytest.approx(counted, rel=0.25)
    assert estimated < 0.6 * sum(macs(w) for w in full.values())
