"""Figures of post-training work for the terminal: the model as given, and the new file."""

from rich.console import Console
from rich.markup import escape

from nas.cli.render.tables import KIND_MARKUP, plain_table
from nas.post_training.base import FileFigures, PostTrainingResult
from nas.post_training.sensitivity import Sensitivity
from nas.post_training.sensitivity_page import TITLES, sensitivity_facts, sensitivity_rows


def show_result(console: Console, result: PostTrainingResult) -> None:
    """Show accuracy, latency and size before and after, what was done, and the files."""
    console.print(plain_table([("", "given", "new", "of given"), *_rows(result)]))
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


def _rows(result: PostTrainingResult) -> list[tuple[str, str, str, str]]:
    """A row for each figure: its name, both values, and the new one as a share of the given one."""
    ratio, low, high = result.latency_ratio
    is_predicted = result.after.latency.kind == "predicted"
    share = f"{ratio:.3f}" if is_predicted else f"{ratio:.3f} [{low:.3f}, {high:.3f}]"
    before, after = result.before, result.after
    rows = [
        ("accuracy", _accuracy(before), _accuracy(after), ""),
        ("ms", _latency(before), _latency(after), share),
        *_robust_rows(before, after),
        ("kB", f"{before.size_bytes / 1e3:.1f}", f"{after.size_bytes / 1e3:.1f}", _share(before, after, "size_bytes")),
    ]
    if before.params and after.params:
        rows.append(("weights", f"{before.params:,}", f"{after.params:,}", _share(before, after, "params")))
    if before.macs and after.macs:
        rows.append(("MMAC", f"{before.macs / 1e6:.2f}", f"{after.macs / 1e6:.2f}", _share(before, after, "macs")))
    return rows


def _accuracy(figures: FileFigures) -> str:
    score = figures.score
    return f"{score.accuracy:.2%} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _latency(figures: FileFigures) -> str:
    latency = figures.latency
    return f"{latency.latency_ms:.4g} [{latency.low_ms:.4g}, {latency.high_ms:.4g}]"


def _robust_rows(before: FileFigures, after: FileFigures) -> list[tuple[str, str, str, str]]:
    """The 5th percentiles, which repeat best on a machine that does other work too; none for predictions."""
    own, other = after.latency.p5_ms, before.latency.p5_ms
    return [("ms, p5", f"{other:.4g}", f"{own:.4g}", f"{own / other:.3f}")] if own and other else []


def _share(before: FileFigures, after: FileFigures, attribute: str) -> str:
    return f"{getattr(after, attribute) / getattr(before, attribute):.3f}"
