"""Use without NNI: everything imports, and the first use raises one line that says what to install."""

import builtins
import re
from importlib import metadata
from typing import Any

import pytest

from nas import registry
from nas.compression.nni import adapter
from nas.config import SearchConfig
from nas.errors import MissingPackageError
from nas.targets.catalog import load_target
from tests.random_nets import context_of, random_net

CRITERIA = [name for name in registry.names("importance") if name.startswith("nni_")]


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(adapter, "version", version)


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_of_nni_raises_at_use(name: str) -> None:
    net = random_net("plain", seed=1).net
    layers = dict(net.named_modules())
    with pytest.raises(MissingPackageError, match=re.escape("not installed; type: pip install 'fer-nas[nni]'")):
        registry.load("importance", name).score(net, layers, context_of())


@pytest.mark.usefixtures("absent")
def test_a_search_with_nni_quantisers_raises_before_it_starts() -> None:
    with pytest.raises(MissingPackageError, match=re.escape("pip install 'fer-nas[nni]'")):
        registry.load("compressor", "nni_quantize").choices(("stage1",), load_target("cpu"))


def test_another_version_of_nni_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "version", lambda name: "2.10")
    with pytest.raises(MissingPackageError, match=r"needs NNI 3.0, but got 2.10; type: pip install"):
        adapter.require_nni()


def test_the_check_does_not_import_nni(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    original = builtins.__import__

    def noting(name: str, *rest: Any, **more: Any) -> Any:
        imported.append(name)
        return original(name, *rest, **more)

    monkeypatch.setattr(adapter, "version", lambda name: "3.0")
    monkeypatch.setattr(builtins, "__import__", noting)
    registry.load("compressor", "nni_quantize").choices(("stage1",), load_target("cpu"))
    assert not [name for name in imported if name.split(".")[0] == "nni"]


def test_default_searches_do_not_need_nni() -> None:
    assert not [name for name in SearchConfig(trials=1).compression.compressors if name.startswith("nni")]
    options = [
        str(option)
        for name in SearchConfig(trials=1).compression.compressors
        for choice in registry.load("compressor", name).choices(("stage1",), load_target("cpu"))
        for option in choice.options
    ]
    assert options
    assert not [option for option in options if option.startswith("nni")]
