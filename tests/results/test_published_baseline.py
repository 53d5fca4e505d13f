"""Published baselines in a run folder: written, read back, replaced, and refused where damaged."""

import json
from pathlib import Path

import pytest

from nas.errors import ConfigError
from nas.results.published_baseline import add_baselines, baseline_key, read_baselines
from tests.fake_baselines import some_baseline
from tests.fake_runs import a_run


def test_baselines_are_read_as_they_were_written(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    assert read_baselines(folder) == []
    one, two = some_baseline(name="one"), some_baseline(name="two", host=None, params=None, macs=None, notes=())
    add_baselines(folder, [one])
    add_baselines(folder, [two])
    assert read_baselines(folder) == [one, two]
    assert list(json.loads((folder.path / "baselines.json").read_text())) == [one.key, two.key]
    assert one.key == baseline_key("o" * 64, "jetson")


def test_a_changed_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    old, new = some_baseline(sha256="a" * 64), some_baseline(0.7, sha256="b" * 64)
    elsewhere = some_baseline(sha256="a" * 64, target="cpu")
    add_baselines(folder, [old, elsewhere])
    add_baselines(folder, [new])
    assert read_baselines(folder) == [new]
    assert list(json.loads((folder.path / "baselines.json").read_text())) == [elsewhere.key, new.key]


def test_measured_is_the_latency_of_this_machine() -> None:
    predicted = some_baseline()
    assert predicted.measured == predicted.host
    assert some_baseline(host=None).measured is None
    here = some_baseline(latency=predicted.host, host=None)
    assert here.measured == predicted.host


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size_bytes", "many", r"baselines.json must be as it was written, but .*size_bytes"),
        ("score", {"accuracy": 2.0}, r"baselines.json must be as it was written, but .*score"),
        ("latency", {"latency_ms": -1.0}, r"baselines.json must be as it was written, but latency_ms must be finite"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, field: str, value: object, message: str) -> None:
    folder = a_run(tmp_path)
    add_baselines(folder, [some_baseline()])
    file = folder.path / "baselines.json"
    stored = json.loads(file.read_text())
    (entry,) = stored.values()
    entry[field] = {**entry[field], **value} if isinstance(value, dict) and field == "latency" else value
    file.write_text(json.dumps(stored))
    with pytest.raises(ConfigError, match=message):
        read_baselines(folder)
