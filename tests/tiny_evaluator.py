"""A small candidate of the `plain` space and an evaluator for it, for tests of the flow."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nas import registry
from nas.candidate import Candidate, decode
from nas.compression.pipeline import CompressionPipeline
from nas.data.base import FaceData
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.untrained import UntrainedMetrics
from nas.pipeline import Promote, candidate_flow
from nas.results.record import Record
from nas.targets.catalog import load_target
from nas.training.trainer import ShouldStop
from search_spaces._base import Value
from tests.fake_runs import a_run

SMALL: dict[str, Value] = {
    "stem_width": 8, "stem_stride": 2, "input_size": 40, "activation": "relu", "attention": "none",
    "stage1.depth": 1, "stage1.width": 16, "stage1.block": "dense", "stage1.down": "none",
    "stage2.depth": 1, "stage2.width": 32, "stage2.block": "residual", "stage2.down": "stride",
    "stage3.depth": 1, "stage3.width": 32, "stage3.block": "residual", "stage3.down": "none",
    "stage4.depth": 0, "stage4.width": 8, "stage4.block": "dense", "stage4.down": "none",
}  # fmt: skip
RUNGS = (0.25, 0.5, 1.0)
Make = Callable[..., Evaluator]


def an_evaluator(place: Path, data: FaceData, **fields: Any) -> Evaluator:
    config = {"target": "jetson", "max_latency": None, "epochs": 2, "rungs": RUNGS, "threads": 1} | fields
    folder = a_run(place, records=[], **config)
    return Evaluator(
        config=folder.config, folder=folder, space=registry.load("space", "plain"), data_digest="d" * 64, data=data,
        profile=load_target(folder.config.search.target), host_profile=load_target("cpu"),
        host_runtime=registry.load("runtime", "onnxruntime"),
        compression=CompressionPipeline(
            compressors=[registry.load("compressor", name) for name in folder.config.compression.compressors],
            profile=load_target(folder.config.search.target),
        ),
    )  # fmt: skip


def small(**genes: Value) -> Candidate:
    picked = SMALL | {f"{gene.replace('_of_', '.')}": value for gene, value in genes.items()}
    return decode(registry.load("space", "plain"), picked, channel_multiple=8, precisions=(8, 16, 32))


def always(rung: int, accuracy: float, untrained: UntrainedMetrics) -> bool:
    return True


def never(rung: int, accuracy: float, untrained: UntrainedMetrics) -> bool:
    return False


def evaluate(
    evaluator: Evaluator,
    candidate: Candidate | None = None,
    *,
    trial: int = 0,
    promote: Promote = always,
    is_search_over: Callable[[], bool] = lambda: False,
    stop: ShouldStop | None = None,
) -> Record:
    """All steps of a candidate, one after the other in this process, as a worker takes them."""
    candidate = candidate or small()
    flow = candidate_flow(
        evaluator.empty_record(candidate, trial, "search"),
        rung=evaluator.checkpoints.last_rung(candidate),
        n_rungs=len(evaluator.config.training.rungs),
        promote=promote,
        is_search_over=is_search_over,
    )
    result: Any = None
    while True:
        try:
            step = flow.send(result)
        except StopIteration as end:
            record: Record = end.value
            return record
        result = step.function(evaluator, stop=stop, **step.arguments)


def fields_of(record: Record) -> dict[str, Any]:
    """Fields that are equal in two evaluations of one candidate: all but times and processes."""
    fields: dict[str, Any] = json.loads(record.to_json())
    return {k: v for k, v in fields.items() if k not in ("host", "seconds", "worker", "finished")}
