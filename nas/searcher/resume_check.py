"""Resume check: a run resumes with the data and the target that it was started with, or not at all.

Accuracies on two data sets, or latencies of two devices, cannot be compared in one front.

    runs/NAME/data.json      digest, classes and sizes of the data, and what reports say of it
    runs/NAME/target.json    the target's profile, and the calibration that its predictions are based on
"""

import json
import uuid
from collections.abc import Sized
from dataclasses import asdict
from typing import Any

from hw_profiles._base import HardwareProfile
from nas.config import FREE_FIELDS, SearchConfig
from nas.data.base import FaceData
from nas.errors import ConfigError
from nas.latency.predicted.predict import CURRENT_PREDICTORS, calibration_fingerprint
from nas.results.data_facts import DataFacts
from nas.results.run_folder import RunFolder
from nas.targets.catalog import device_runtime

TARGET_FACTS = ("title", "runtime", "latency", "calibration")
"""What the latencies of a target depend on: fields of its profile, and the calibration of its predictions."""

ID_FILE = "id.json"
"""Id of a run whose study is in a storage of its own."""
HOST_FIELDS = frozenset({"storage", "teacher", "warm_start", "data_options"})
"""Fields with paths and addresses, which differ between hosts that work on one study."""


def study_identity(folder: RunFolder, config: SearchConfig) -> dict[str, Any]:
    """What a study in a storage of its own belongs to: the run, by its id, what decides its results, and the data.

    A copy of the folder has the same id, so that a run may move to another host.
    """
    fields = {name: value for name, value in config.flat().items() if name not in FREE_FIELDS | HOST_FIELDS}
    stored = folder.read_json(ID_FILE)
    if config.run.storage is not None and not stored:
        stored = {"id": uuid.uuid4().hex}
        folder.write(ID_FILE, json.dumps(stored))
    return {**fields, "id": stored.get("id", ""), "data": folder.read_json("data.json", DataFacts).get("digest", "")}


def check_same_data(folder: RunFolder, data: FaceData) -> None:
    """Write data.json, or verify that the run was started with this data.

    Raises:
        ConfigError: the run was started with other data.
    """
    file = folder.path / "data.json"
    facts = {"digest": data.digest, "classes": data.classes, "notes": data.notes, "synthetic": data.synthetic}
    facts |= {"train": len(data.train), "val": len(data.val), "test": len(data.test) if data.test else 0}
    facts |= {"n_folds": data.n_folds, "name": data.name, "val_name": data.val_name, "test_name": data.test_name}
    if not file.exists():
        folder.write("data.json", json.dumps(facts, indent=1))
    elif (before := folder.read_json("data.json", DataFacts).get("digest", "")) != data.digest:
        raise ConfigError(
            f"{folder.path} was started with data of digest {before[:12]}, but this data has "
            f"{data.digest[:12]}; give this run a --name of its own"
        )


def check_not_lost(folder: RunFolder, trials: Sized) -> None:
    """Verify that the study of a run still has the trials that the run has records of.

    An empty study would ask again for what was evaluated, under numbers that records have already.

    Raises:
        ConfigError: there are records of a search, but no trials.
    """
    searched = [] if trials else [record for record in folder.records() if record.phase == "search"]
    if searched:
        raise ConfigError(
            f"the study of {folder.path} has no trials, but records.jsonl has {len(searched)} candidates; "
            "it was deleted, or --storage leads elsewhere; restore it from a copy, or give the new run a --name"
        )


def check_same_target(folder: RunFolder, profile: HardwareProfile, *, target: str) -> None:
    """Write target.json, or verify that all latencies of the run are of one device and one predictor.

    Args:
        folder: the run.
        profile: of the target now.
        target: the target's word, for the message.

    Raises:
        ConfigError: the run was started with another form of the target, or another predictor.
    """
    file = folder.path / "target.json"
    # Through JSON, so that tuples compare equal to the lists that are read back.
    facts = json.loads(json.dumps(asdict(profile)))
    facts["calibration"] = None if _is_measured_on_host(profile) else calibration_fingerprint(profile)
    before = folder.read_json("target.json") or facts
    changed = [name for name in TARGET_FACTS if before.get(name) != facts[name]]
    latencies = [r.latency for r in folder.records() if r.latency and r.latency.kind == "predicted"]
    if {latency.versions.get("predictor") for latency in latencies} - CURRENT_PREDICTORS:
        changed.append("version of the predictor")
    if changed:
        raise ConfigError(
            f"{folder.path} was started with another {', '.join(changed)} of target {target}, and latencies of the two "
            "cannot be compared; give this run a --name of its own"
        )
    if not file.exists():
        folder.write("target.json", json.dumps(facts, indent=1))


def _is_measured_on_host(profile: HardwareProfile) -> bool:
    """Whether even untrained files are measured, so that no decision depends on a prediction."""
    return profile.local and device_runtime(profile) is None
