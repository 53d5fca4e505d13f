"""A run refuses to resume with other data or another target; a search with a mistyped word leaves no folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.data.base import FaceData
from nas.errors import ConfigError, UserError
from nas.results.run_folder import RunFolder
from nas.targets.catalog import load_target
from tests.tiny_search import ASSEMBLY, searched


def test_other_configuration_or_data_in_the_folder_is_refused(
    go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, make_faces: Callable[..., FaceData]
) -> None:
    go(trials=1)
    with pytest.raises(ConfigError, match=r"\(epochs: 0\.5 there, 2\.0 asked\); give this one a --name of its own"):
        go(trials=1, epochs=2)
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: make_faces(seed=1))
    with pytest.raises(ConfigError, match=r"was started with data of digest .* but this data has"):
        go(trials=1)


def test_resumed_run_keeps_its_sampler_unless_another_is_given(go: Callable[..., RunFolder]) -> None:
    go(trials=1, sampler="random")
    folder = go(trials=2)
    assert folder.config.search.sampler == "random"
    assert len(searched(folder)) == 2
    with pytest.raises(ConfigError, match="sampler: 'random' there, 'screened' asked"):
        go(trials=3, sampler="screened")


def test_other_latency_model_of_the_target_is_refused(
    go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    go(trials=1)
    profile = load_target("jetson")
    assert profile.latency is not None
    refitted = replace(profile, latency=replace(profile.latency, floor_us=1.0))
    monkeypatch.setattr(ASSEMBLY, "load_target", lambda name: refitted if name == "jetson" else load_target(name))
    with pytest.raises(ConfigError, match="was started with another latency of target jetson"):
        go(trials=2)


@pytest.mark.parametrize("field", [{"sampler": "tpee"}, {"proxies": ("nope",)}, {"warm_start": (Path("absent"),)}])
def test_mistyped_word_leaves_no_folder(go: Callable[..., RunFolder], tmp_path: Path, field: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"tpee|nope|absent is no run folder"):
        go(trials=1, runs=tmp_path / "new", **field)
    assert not (tmp_path / "new").exists()


def test_predictions_of_an_earlier_version_are_refused(go: Callable[..., RunFolder]) -> None:
    folder = go(trials=1).path
    (folder / "target.json").unlink()  # early versions did not write it
    records = folder / "records.jsonl"
    records.write_text(records.read_text().replace('"predictor":"roofline 2"', '"predictor":"roofline 1"'))
    with pytest.raises(ConfigError, match="was started with another version of the predictor of target jetson"):
        go(trials=1)


def test_calibration_during_a_run_is_refused(go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    go(trials=1)
    monkeypatch.setattr("nas.searcher.resume_check.calibration_fingerprint", lambda profile: "0123456789ab")
    with pytest.raises(ConfigError, match="was started with another calibration of target jetson"):
        go(trials=1)


def test_energy_that_cannot_be_measured_is_refused_before_a_folder_is_made(
    go: Callable[..., RunFolder], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="objective energy needs a target that measures it") as caught:
        go(objectives=("accuracy", "latency", "energy"))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
