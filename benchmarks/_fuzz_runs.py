"""Run folders, and the functions that read them."""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

import nas
from benchmarks._fuzz_base import attempt_at_the_door, require
from benchmarks._fuzz_devices import jetson
from benchmarks._fuzz_models import faces
from benchmarks._fuzz_mutation import Files
from nas.candidate import Candidate
from nas.config import make_config
from nas.distillation.teachers import find_teachers
from nas.latency.latency import Latency
from nas.metrics import score_from_confusion
from nas.reporting.html_report import write_report
from nas.results.front_table import write_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.search_end import describe_search_end
from nas.searcher.promotion import RungResults
from nas.searcher.resume_check import check_same_data, check_same_target
from nas.searcher.storage import picks_by_key

REPORT_SHARE = 0.01
"""Share of the run folders of which a report is written, too; it takes as long as a hundred other inputs."""


def _record(trial: int, accuracy: float, ms: float, **fields: Any) -> Record:
    candidate = Candidate(
        space="plain", architecture={"depth": trial, "input": 48}, widths={"stage1": 16, "stage2": 32},
        pruned={"stage1": 16, "stage2": 32}, bits={"stem": 32, "stage1": 32, "stage2": 8, "head": 32},
    )  # fmt: skip
    hits = round(100 * accuracy)
    score = score_from_confusion(np.array([[hits, 100 - hits], [100 - hits, hits]]), ("angry", "happy"))
    latency = Latency(
        kind="predicted", device="Jetson", runtime="tensorrt", latency_ms=ms, low_ms=0.6 * ms, high_ms=1.5 * ms,
        versions={"predictor": "roofline 1"},
    )  # fmt: skip
    host = replace(
        latency, kind="measured", p5_ms=0.9 * ms, p99_ms=2 * ms, runs=300, drift=0.01, notes=("busy machine",)
    )
    record = Record(
        trial=trial, key=candidate.key, status="complete", candidate=candidate, score=score, latency=latency, host=host,
        accuracy_split="val", size_bytes=1000 + trial, params=900, nonzero_params=800, macs=10**6, epochs=3.0, rung=2,
        parity={"max_difference": 1e-6, "agreement": 1.0, "n": 256}, model=f"models/{trial}.onnx", sha256="0" * 64,
        seconds={"train": 20.0, "measure": 0.5}, proxies={"nwot": 1.0},
        finished=(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=trial)).isoformat(),
    )  # fmt: skip
    return replace(record, **fields)


def runs() -> Sequence[Files]:
    infeasible = _record(
        3, 0.9, 9.0, status="infeasible", reason="max_latency exceeded", violations={"max_latency": 0.8}
    )
    failed = _record(4, 0.5, 1.0, status="failed", reason="loss is not finite", score=None, latency=None, model="")
    records = [_record(0, 0.4, 1.0), _record(1, 0.55, 2.0), _record(2, 0.7, 4.0), infeasible, failed]
    records += [_record(i, 0.5 + 0.1 * i, 1.0 + i, phase="verified", test=records[0].score) for i in range(2)]
    rungs = [{"key": r.key, "rung": 1, "values": [0.3, 1.0]} for r in records[:3]]
    data = {
        "digest": "d" * 64,
        "classes": ["angry", "happy"],
        "notes": [],
        "synthetic": False,
        "train": 28,
        "val": 7,
        "test": 0,
    }
    data |= {"name": "faces", "val_name": "val", "test_name": "none"}
    prior = {"path": "runs/a", "target": "cpu", "same_target": False, "told": [], "records": [], "front": []}
    folder: Files = {
        "config.toml": make_config(target="jetson", space="plain", name="run").to_toml().encode(),
        "records.jsonl": "".join(f"{r.to_json()}\n" for r in records).encode(),
        "rungs.jsonl": "".join(f"{json.dumps(rung)}\n" for rung in rungs).encode(),
        "data.json": json.dumps(data).encode(),
        "environment.json": b'{"python": "3.12", "torch": "2.13"}',
        "importance.json": b'{"accuracy": {"depth": 0.7, "width": 0.3}}',
        "forecast.json": b'{"pilot": {"words": "about 10 candidates"}, "early": {"words": "12"}}',
        "ended.json": b'{"why": "trials", "candidates": 5, "horizon": null, "told": ""}',
        "clocks/1-1.json": b"[1767225600.0, 1767226200.0]",
        "warm_start.json": json.dumps([prior]).encode(),
        "journal.log": _journal(records),
        "locks/.keep": b"",
    }
    main = ("records.jsonl", "config.toml", "locks/.keep")
    return [folder, folder, {name: folder[name] for name in main}]


def _journal(records: Sequence[Record]) -> bytes:
    """An Optuna journal with a trial for each record."""
    import tempfile

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as place:
        from nas.searcher.storage import open_storage

        (Path(place) / "locks").mkdir()
        study = optuna.create_study(
            storage=open_storage(Path(place), None), study_name="run", directions=["maximize", "minimize"]
        )
        for record in records[:3]:
            trial = study.ask()
            trial.suggest_categorical("depth", [1, 2, 3])
            trial.set_user_attr("key", record.key)
            study.tell(trial, [0.5, 1.0])
        return (Path(place) / "journal.log").read_bytes()


def read_run(folder: Path, rng: random.Random) -> None:
    run = nas.load_run(folder)
    readers: list[Callable[[], object]] = [
        lambda: run.records, lambda: run.front, lambda: run.seed_statistics, lambda: run.dropped, lambda: run.data,
        lambda: nas.pick(run), lambda: nas.table(run), lambda: run.folder.worked_s(),
        lambda: describe_search_end(run.folder, run.all_records),
        lambda: write_front(run.folder, run.config.search.objectives),
        lambda: picks_by_key(run.folder), lambda: check_same_data(run.folder, faces()),
        lambda: check_same_target(run.folder, jetson(), target="jetson"),
        lambda: RungResults(run.folder, ("accuracy", "latency")).first_rung_accuracies(),
        lambda: find_teachers((str(folder),), faces()),
    ]  # fmt: skip
    for read in rng.sample(readers, 3):
        attempt_at_the_door(read)
    if rng.random() < REPORT_SHARE:
        attempt_at_the_door(lambda: write_report([run.folder], folder / "report.html"))
    before = run.all_records
    for record in before:
        require(record.latency is None or 0 < record.latency.latency_ms < math.inf, "a latency that is not finite")
        require(record.score is None or 0 <= record.score.accuracy <= 1, "an accuracy beyond 0..1")
    run.folder.append(_record(9, 0.5, 1.0))
    require([*before, _record(9, 0.5, 1.0)] == RunFolder(folder).records(), "a record that an added one replaced")
