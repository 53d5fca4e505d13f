"""Tables of predictions, benchmarks and crops, from figures made by hand."""

from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nas.cli.render.vision import (
    benchmark_tables,
    crop_table,
    describe_benchmark,
    describe_crops,
    describe_summary,
    labels_table,
)
from nas.vision.benchmark import PredictionBenchmark
from nas.vision.face_crops import CropSummary
from nas.vision.labelling import LabelSummary
from nas.vision.stage_times import STAGES, ProcessUse, StageSummary
from tests.shown import plain

USE = ProcessUse(cpu_share=0.9, cores=4, resident_bytes=200_000_000, peak_bytes=300_000_000, total_bytes=4_000_000_000)
ROWS = tuple(
    StageSummary(stage=stage, median_ms=2.5, p95_ms=4, p99_ms=5, frames_per_s=25.0, share=0.2)
    for stage in (*STAGES, "whole")
)
FIGURES = PredictionBenchmark(
    model=Path("runs/small/model.onnx"), detector="haar", params=58_423, size_bytes=244_000, frames=200, faces=1.5,
    frame_size=(640, 480), stages=ROWS, use=USE,
)  # fmt: skip


def shown(*tables: Table) -> str:
    console = Console(file=StringIO(), width=200)
    for table in tables:
        console.print(table)
    return plain(console.file.getvalue())  # type: ignore[attr-defined]


def test_the_benchmark_has_the_columns_of_papers_and_a_row_for_each_stage() -> None:
    words = shown(*benchmark_tables(FIGURES))
    assert "small/model.onnx haar 58,423 244.0 90 22 5.0% 200 300 25.0" in words
    assert "detect 2.50 4.00 5.00 25 20.0%" in words
    (line,) = describe_benchmark(FIGURES)
    assert line.startswith("200 frames of 640x480 with 1.5 faces, after a warm-up; 36.0 ms of CPU time a frame; ")


def test_what_is_not_known_is_a_dash() -> None:
    use = replace(USE, resident_bytes=None, peak_bytes=None, total_bytes=None)
    quick = tuple(replace(row, frames_per_s=float("inf")) if row.stage == "draw" else row for row in ROWS)
    words = shown(*benchmark_tables(replace(FIGURES, params=None, use=use, stages=quick)))
    assert "haar - 244.0 90 22 - - - 25.0" in words
    assert "draw 2.50 4.00 5.00 - 20.0%" in words


def test_a_process_that_waited_is_said() -> None:
    _, warning = describe_benchmark(replace(FIGURES, use=replace(USE, cpu_share=0.24)))
    assert warning.startswith("the process ran for 24% of the time and waited for a camera, a disk or other programs")


def test_labels_come_the_most_frequent_first_and_one_is_singular() -> None:
    summary = LabelSummary(labels=Counter(sad=1, happy=3), sources=["a"], frames=1, elapsed_s=0.5)
    assert shown(labels_table(summary)) == "label faces share happy 3 75% sad 1 25% all 4 "
    line = describe_summary(summary)
    assert line.startswith("4 faces in 1 frame of 1 source; 0 frames without a face; 0 not read; 2.0 frames/s")


def test_crops_are_counted_by_folder() -> None:
    summary = CropSummary(photos=3, crops=2, classes={"sad": 1, "happy": 1}, left_out={"x": "no face"}, resumed=3)
    assert shown(crop_table(summary)) == "folder crops happy 1 sad 1 all 2 "
    assert describe_crops(summary) == "2 crops of 3 photographs; 1 left out; 3 were done before"
