"""Tables of predicted faces, of the benchmark of the chain, and of face crops."""

from rich.table import Table

from nas.cli.render.tables import plain_table
from nas.vision.benchmark import PredictionBenchmark
from nas.vision.face_crops import CropSummary
from nas.vision.labelling import LabelSummary

MIN_CPU_SHARE = 0.8
"""CPU time by wall time below which the process waited for something: its stages have no pauses of their own."""


def labels_table(summary: LabelSummary) -> Table:
    """Faces by label, the most frequent first."""
    rows = [("label", "faces", "share")]
    rows += [(name, f"{n:,}", f"{n / summary.faces:.0%}") for name, n in summary.labels.most_common()]
    return plain_table([*rows, ("all", f"{summary.faces:,}", "")])


def describe_summary(summary: LabelSummary) -> str:
    """One line: what was read, what has no face, and frames per second."""
    faces = _count(summary.faces, "face")
    parts = [
        f"{faces} in {_count(summary.frames, 'frame')} of {_count(len(summary.sources), 'source')}",
        f"{_count(summary.frames_without_face, 'frame')} without a face",
        f"{len(summary.faults):,} not read",
        f"{summary.frames_per_s:.1f} frames/s with reading and writing",
    ]
    return "; ".join([*parts, *(["stopped"] if summary.is_interrupted else [])])


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def describe_benchmark(figures: PredictionBenchmark) -> list[str]:
    """What was timed, and a warning where the process did not run for much of the time."""
    width, height = figures.frame_size
    share, fps = figures.use.cpu_share, figures.stages[-1].frames_per_s
    timed = f"{_count(figures.frames, 'frame')} of {width}x{height} with {figures.faces:.1f} faces, after a warm-up"
    lines = [f"{timed}; {1e3 * share / fps:.1f} ms of CPU time a frame; CPU 100 % is one of {figures.use.cores} cores"]
    if share < MIN_CPU_SHARE:
        lines.append(
            f"the process ran for {share:.0%} of the time and waited for a camera, a disk or other programs for the "
            "rest; without them FPS would be higher"
        )
    return lines


def benchmark_tables(figures: PredictionBenchmark) -> list[Table]:
    """The table that papers print, then the stages."""
    use, whole = figures.use, figures.stages[-1]
    memory = f"{use.memory_share:.1%}" if use.memory_share is not None else "-"
    resident = f"{use.resident_bytes / 1e6:,.0f}" if use.resident_bytes is not None else "-"
    peak = f"{use.peak_bytes / 1e6:,.0f}" if use.peak_bytes is not None else "-"
    first = plain_table(
        [
            ("model", "detector", "parameters", "kB", "CPU %", "CPU % of all", "MEM %", "MEM MB", "peak MB", "FPS"),
            (
                f"{figures.model.parent.name}/{figures.model.name}", figures.detector,
                f"{figures.params:,}" if figures.params is not None else "-", f"{figures.size_bytes / 1e3:.1f}",
                f"{100 * use.cpu_share:.0f}", f"{100 * use.cpu_share / use.cores:.0f}", memory, resident, peak,
                f"{whole.frames_per_s:.1f}",
            ),
        ]
    )  # fmt: skip
    rows = [("stage", "median ms", "p95 ms", "p99 ms", "frames/s", "share of time")]
    rows += [
        (
            s.stage, f"{s.median_ms:.2f}", f"{s.p95_ms:.2f}", f"{s.p99_ms:.2f}",
            f"{s.frames_per_s:,.0f}" if s.frames_per_s < 1e6 else "-", f"{s.share:.1%}",
        )
        for s in figures.stages
    ]  # fmt: skip
    return [first, plain_table(rows)]


def crop_table(summary: CropSummary) -> Table:
    """Crops by folder of the photographs."""
    rows = [("folder", "crops")]
    rows += [(name, f"{n:,}") for name, n in sorted(summary.classes.items())]
    return plain_table([*rows, ("all", f"{summary.crops:,}")])


def describe_crops(summary: CropSummary) -> str:
    """One line: crops, photographs, and those without one."""
    before = f"; {summary.resumed:,} were done before" if summary.resumed else ""
    crops = f"{_count(summary.crops, 'crop')} of {_count(summary.photos, 'photograph')}"
    return f"{crops}; {len(summary.left_out):,} left out{before}"
