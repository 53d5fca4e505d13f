"""Report section on compression: recall of each class against the uncompressed model."""

from markupsafe import Markup

from nas.reporting.rendering import render
from nas.reporting.run_view import RunView
from nas.results.compression_effect import MAX_RECALL_LOSS, RecallChange, large_recall_losses, recall_changes

FULL_SHADE_RECALL_LOSS = 4 * MAX_RECALL_LOSS
"""Lost recall, 0..1, from which a cell has the darkest shade."""


def recall_section(view: RunView, *, show_run_name: bool) -> Markup:
    """Recall by class of the uncompressed model, and the change in each member of the front.

    Args:
        view: the run.
        show_run_name: whether the title names the run.

    Returns:
        The section; empty where the run has no uncompressed model with a score, or no front.
    """
    base, members = view.baseline, [r for r in view.front if r.score]
    if base is None or base.score is None or not members:
        return Markup()
    changes = {r.trial: recall_changes(base, r) for r in members}
    classes = [change.name for change in changes[members[0].trial]]
    losses = {r.trial: large_recall_losses(base, r) for r in members}
    return render(
        "recall.html",
        title=f"Recall lost to compression{f' in {view.name}' if show_run_name else ''}",
        note="Recall of the uncompressed model, and below it the change by compression in percentage points, on "
        f"{base.accuracy_split}. Rare classes suffer first, which the accuracy over all faces hides.",
        titles=["trial", *classes],
        rows=[
            ("uncompressed", [(f"{base.score.recall[name]:.0%}", None) for name in classes]),
            *((str(trial), [_cell(change) for change in by_class]) for trial, by_class in changes.items()),
        ],
        losses=[(f"Trial {trial}", f": {'; '.join(map(str, lost))}") for trial, lost in losses.items() if lost],
        limit=f"{100 * MAX_RECALL_LOSS:.0f}",
    )


def _cell(change: RecallChange) -> tuple[str, float | None]:
    """Change in percentage points, and the depth of its shade: None for a class that lost nothing."""
    points = change.percentage_points
    return f"{points:+.1f}", min(1.0, -points / 100 / FULL_SHADE_RECALL_LOSS) if points < 0 else None
