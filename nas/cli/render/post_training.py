"""Figures of post-training work for the terminal: the model as given, and the new file."""

from rich.console import Console
from rich.markup import escape

from nas.cli.render.tables import KIND_MARKUP, plain_table
from nas.post_training.base import FileFigures, PostTrainingResult
from nas.post_training.sensitivity import Sensitivity
from nas.post_training.sensitivity_page import TITLES, sensitivity_facts, sensitivity_rows


def show_result(console: Console, result: PostTrainingResult) -> None:
    """Show accuracy, latency and size before and after, what was done, and the files."""
    ratio, low, high = result.latency_ratio
    is_predicted = result.after.latency.kind == "predicted"
    header = ("", "accuracy", "[95 %]", "ms", "[interval]", "of given", "kB", "of given", "weights", "MMAC")
    share = f"{ratio:.3f}" if is_predicted else f"{ratio:.3f} [{low:.3f}, {high:.3f}]"
    rows = [
        _cells(result.before, "", ""),
        _cells(result.after, share, f"{result.after.size_bytes / result.before.size_bytes:.3f}"),
    ]
    shown = [i for i in range(len(header)) if i == 0 or any(row[i] for row in rows)]
    console.print(
        plain_table([[header[i].replace("[", "\\[") for i in shown], *([row[i] for i in shown] for row in rows)])
    )
    for text in (f"given: {result.before.detail}", f"new: {result.after.detail}", *result.notes):
        console.print(f"  {text}", soft_wrap=True, markup=False)
    kind = KIND_MARKUP[result.after.latency.kind]
    console.print(f"  latency {kind}: {escape(result.after.latency.device)}", soft_wrap=True)
    console.print(
        f"  accuracy on {result.split_name}; both files agree on {result.agreement:.1%} of them", soft_wrap=True,
        markup=False,
    )  # fmt: skip
    lines = [f"file     {result.path}", *([f"weights  {result.weights}"] if result.weights else [])]
    console.print("\n" + "\n".join(lines), soft_wrap=True, markup=False)


def show_sensitivity(console: Console, sensitivity: Sensitivity) -> None:
    """Show the figures of every layer, and what they rest on."""
    console.print(plain_table([TITLES, *sensitivity_rows(sensitivity)]))
    for name, value in sensitivity_facts(sensitivity):
        console.print(f"  {name}: {value}", soft_wrap=True, markup=False)
    console.print(
        "  pruning: this layer alone, without fine-tuning; INT8: points lost by this layer alone, and times as fast as "
        "the INT8 net with this layer in float", soft_wrap=True, markup=False,
    )  # fmt: skip


def _cells(figures: FileFigures, latency_share: str, size_share: str) -> list[str]:
    """One row; empty cells where a figure is unknown."""
    score, latency = figures.score, figures.latency
    return [
        figures.name,
        f"{score.accuracy:.2%}",
        f"{100 * score.low:.1f} to {100 * score.high:.1f}",
        f"{latency.latency_ms:.4g}",
        f"{latency.low_ms:.4g} to {latency.high_ms:.4g}",
        latency_share,
        f"{figures.size_bytes / 1e3:.1f}",
        size_share,
        f"{figures.params:,}" if figures.params else "",
        f"{figures.macs / 1e6:.2f}" if figures.macs else "",
    ]
