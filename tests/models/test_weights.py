"""Checkpoints as training scripts write them: what surrounds the tensors is taken off, what does not fit is refused."""

import argparse
import logging
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.errors import ConfigError, MissingPackageError
from nas.models.weights import load_weights
from tests import outside_nets as nets

State = dict[str, Tensor]


def trained(seed: int = 1) -> State:
    """A state dict whose every value differs from a new net's."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor + 7
        for name, tensor in nets.ResNet().state_dict().items()
    }


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def load(tmp_path: Path, content: Any, net: nn.Module | None = None) -> State:
    torch.save(content, tmp_path / "w.pt")
    net = net or nets.ResNet()
    load_weights(net, tmp_path / "w.pt")
    return net.state_dict()


def assert_equal(loaded: State, expected: State) -> None:
    assert set(loaded) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize(
    "key", ["state_dict", "model", "net", "model_state_dict", "ema", "ema.state_dict", "model.state_dict", "checkpoint"]
)
def test_state_dict_is_found_under_the_usual_keys(tmp_path: Path, key: str) -> None:
    content: Any = trained()
    for word in reversed(key.split(".")):
        content = {"epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, word: content}
    if key == "checkpoint":
        with pytest.raises(ConfigError, match="the file has the keys 'epoch', 'optimizer', 'checkpoint'"):
            load(tmp_path, content)
    else:
        assert_equal(load(tmp_path, content), trained())


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "model.module._orig_mod."]
)
def test_words_of_wrappers_are_taken_off(tmp_path: Path, prefix: str) -> None:
    assert_equal(load(tmp_path, {"state_dict": prefixed(trained(), prefix)}), trained())


def test_units_of_a_run_are_taken_off(tmp_path: Path) -> None:
    """A run saves its nets in units, as in `stage1.layer1.0.conv1.weight`."""
    units = ("stem", "stage1", "stage12", "head")
    state = {f"{units[i % 4]}.{name}": tensor for i, (name, tensor) in enumerate(trained().items())}
    assert_equal(load(tmp_path, state), trained())


def test_words_of_wrappers_inside_names_are_taken_off(tmp_path: Path) -> None:
    state = {name.replace("fc.", "fc.module.").replace("bn1.", "bn1._orig_mod."): t for name, t in trained().items()}
    state = {name.replace("layer1.0.", "layer1.0._orig_mod."): tensor for name, tensor in state.items()}
    assert "fc.module.weight" in state
    assert_equal(load(tmp_path, state), trained())


@pytest.mark.parametrize("child", ["module", "model", "_orig_mod"])
@pytest.mark.parametrize("wrapper", ["", "module.", "model."])
def test_a_child_with_the_name_of_a_wrapper_keeps_it(tmp_path: Path, child: str, wrapper: str) -> None:
    net = nn.Module()
    net.add_module(child, nets.ResNet())
    assert_equal(load(tmp_path, prefixed(trained(), f"{wrapper}{child}."), net), prefixed(trained(), f"{child}."))


def test_a_child_with_the_name_of_a_wrapper_beside_others_keeps_it(tmp_path: Path) -> None:
    net = nn.ModuleDict({"model": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    state = {name: torch.full_like(tensor, 5) for name, tensor in net.state_dict().items()}
    assert_equal(load(tmp_path, state, net), state)
    assert_equal(load(tmp_path, prefixed(state, "model."), net), state)


def test_counters_of_tools_are_ignored(tmp_path: Path) -> None:
    counters = {
        "n_averaged": torch.tensor(5), "total_ops": torch.zeros(1), "fc.total_params": torch.zeros(1),
    }  # fmt: skip
    assert_equal(load(tmp_path, prefixed(trained(), "module.") | counters), trained())
    assert_equal(load(tmp_path, trained() | {"total_ops": 123}), trained())


def test_a_buffer_of_the_net_with_the_name_of_a_counter_is_loaded(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    net.register_buffer("n_averaged", torch.zeros(1))
    state = {name: tensor + 3 for name, tensor in net.state_dict().items()}
    assert_equal(load(tmp_path, state, net), state)
    state.pop("n_averaged")
    with pytest.raises(ConfigError, match="'n_averaged' is in the net only"):
        load(tmp_path, state, net)


def test_num_batches_tracked_may_be_absent(tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in trained().items() if not name.endswith("num_batches_tracked")}
    loaded = load(tmp_path, old)
    assert len(old) < len(loaded)
    assert_equal({name: loaded[name] for name in old}, old)


def test_weights_come_before_their_moving_average_and_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = load(tmp_path, {"ema": trained(2), "model": trained(1)})
    assert_equal(loaded, trained(1))
    assert "holds fitting weights under model, ema; those under model are loaded" in caplog.text


def test_arguments_and_numpy_numbers_beside_the_weights_are_read(tmp_path: Path) -> None:
    content = {"args": argparse.Namespace(lr=0.1, out=Path("runs")), "best": np.float64(0.7), "state_dict": trained()}
    assert_equal(load(tmp_path, content), trained())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_widths_are_cast(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in trained().items()}
    assert_equal(load(tmp_path, state), {name: t.to(trained()[name].dtype) for name, t in state.items()})


def test_old_format_and_channels_last_are_read(tmp_path: Path) -> None:
    state = {n: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for n, t in trained().items()}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    net = nets.ResNet()
    load_weights(net, tmp_path / "w.pth")
    assert_equal(net.state_dict(), trained())


def test_safetensors_are_read_by_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"x")
    package = types.ModuleType("safetensors.torch")
    package.load_file = lambda _: prefixed(trained(), "module.")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "safetensors", types.ModuleType("safetensors"))
    monkeypatch.setitem(sys.modules, "safetensors.torch", package)
    net = nets.ResNet()
    load_weights(net, tmp_path / "w.safetensors")
    assert_equal(net.state_dict(), trained())
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingPackageError, match=r"not installed; pip install safetensors$"):
        load_weights(net, tmp_path / "w.safetensors")


def with_value(name: str, value: Any) -> State:
    state = trained()
    state[name] = state[name].double()
    state[name].view(-1)[0] = value
    return state


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; check the path"),
        (b"", r"is empty \(0 bytes\); copy or save it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a pointer of Git LFS; run git lfs pull"),
        (b"PK nonsense", "that torch.load.weights_only=True. reads, but .* is not: "),
        (nets.ResNet(), "is not: it also holds an object of tests.outside_nets.ResNet; save it with"),
        ([1, 2], "holds a list of other objects than tensors"),
        ({"epoch": 3}, "holds a dict of other objects than tensors; the file has the keys 'epoch'"),
        ({}, "'bn1.bias' is in the net only"),
        ({"state_dict": {}}, "'bn1.bias' is in the net only .*the file has the keys 'state_dict'"),
        (trained() | {"extra": torch.zeros(1)}, "'extra' is in the file only"),
        (prefixed(trained(), "backbone."), "'backbone.*' is in the file only .*the file has the keys 'backbone."),
        (nets.ResNet(5).state_dict(), r"'fc.weight' is \[3, 32\] in the net and \[5, 32\] in "),
        (with_value("fc.bias", float("nan")), "must be finite, but 'fc.bias' .* has 1 of 3 values"),
        (with_value("fc.bias", float("-inf")), "must be finite, but 'fc.bias'"),
        (with_value("fc.bias", 1e300), "must be finite, but 'fc.bias' .*in float32"),
        (with_value("bn1.running_var", -1.0), "variances must be 0 or more, but 'bn1.running_var' .* has -1"),
        (trained() | {"fc.bias": torch.zeros(3, dtype=torch.complex64)}, "'fc.bias' .* is of type torch.complex64"),
        (trained() | {"fc.bias": torch.zeros(3, dtype=torch.int8)}, "'fc.bias' .* is of type torch.int8"),
        (trained() | {"fc.bias": torch.zeros(3, device="meta")}, "'fc.bias' .* is without values"),
    ],
    ids=[
        "missing", "no bytes", "Git LFS", "noise", "pickle", "list", "other", "empty", "empty inside", "more",
        "other prefix", "other shape", "nan", "inf", "too large", "negative variance", "complex", "integers", "meta",
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ConfigError, match=message) as caught:
        load_weights(nets.ResNet(), path)
    assert "\n" not in str(caught.value)
