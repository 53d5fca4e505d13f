"""Candidates of runs as models, from records made by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas import registry
from nas.candidate import Candidate, decode
from nas.errors import ConfigError
from nas.models.model_source import ModelSource, make_model, parse_model
from nas.models.run_candidate import build_candidate, is_run
from tests.fake_runs import a_run, some_record

PLAIN: Any = registry.load("space", "plain")


@pytest.fixture
def candidate() -> Candidate:
    """A residual chain of which half of the third stage's channels are removed, and whose stages are in INT8."""
    genes = PLAIN.initial_configurations(channel_multiple=8)[1]
    picked = genes | {"sparsity.stage3": 0.5} | {f"bits.{stage}": 8 for stage in PLAIN.stages}
    return decode(PLAIN, picked, channel_multiple=8, precisions=(32, 8))


@pytest.fixture
def run(tmp_path: Path, candidate: Candidate) -> str:
    record = replace(some_record(3, 0.5, 1.0), candidate=candidate, key=candidate.key)
    return str(a_run(tmp_path, records=[record, some_record(4, 0.6, 2.0)]).path)


def n_params(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_layers_and_channels_are_those_of_the_candidate(run: str, candidate: Candidate) -> None:
    assert candidate.pruned["stage3"] * 2 == candidate.widths["stage3"]
    for word in (f"{run}:3", f"{run}:{candidate.key[:6]}"):
        net = make_model(word, input_shape=(3, 48, 48), classes=5)
        assert net(torch.rand(2, 3, 48, 48)).shape == (2, 5)
        slim, wide = (
            PLAIN.build(candidate.architecture, input_shape=(3, 48, 48), classes=5, widths=widths)
            for widths in (candidate.pruned, candidate.widths)
        )
        assert n_params(net) == n_params(slim) < n_params(wide)


def test_a_run_is_known_by_its_configuration(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_run(run)
    assert is_run(f"{run}:3")
    assert not any(
        map(is_run, (f"{tmp_path}/other:3", ":3", "", "mypkg.models:build", "resnet8", "m:f:x=" + 5000 * "1"))
    )
    assert parse_model(f"{run}:3") == ModelSource("run", f"{run}:3")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet8").mkdir()
    (tmp_path / "resnet8" / "config.toml").touch()
    assert parse_model("resnet8:stem_stride=2").origin == "zoo"


def test_what_names_no_network_of_a_space_is_refused(run: str, tmp_path: Path) -> None:
    model = a_run(tmp_path / "m", records=[some_record(-1, 0.9, 5.0, phase="base")], model="resnet8")
    base = replace(model.records()[0].candidate, space="resnet8")
    model.append(replace(model.records()[0], candidate=base, key=base.key, trial=7, phase="search"))
    for word, message in (
        (run, "a model of a run must be RUN:TRIAL or RUN:KEY, but got"),
        (f"{run}:99", "no trial and no key is '99'"),
        (f"{run}:", "no trial and no key is ''"),
        (f"{run}:4", "must hold a network of the space plain, but its record does not: .*; name another candidate"),
        (f"{model.path}:7", "must be a network of a search space, but .* is a form of resnet8; give --model resnet8"),
        (f"{run}:3:width=4", "no trial and no key is '3:width=4'"),
        (f"{tmp_path}/none:7", "a model of a run must be RUN:TRIAL"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_candidate(word, input_shape=(1, 48, 48), classes=7)
    with pytest.raises(ConfigError, match=r"must be a candidate of a run, but .*none is no run folder .* RUN:TRIAL"):
        parse_model(f"{tmp_path}/none:7")
    assert parse_model("some/file.py:build").origin == "factory"
